#include "common/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "common/fd.h"

struct worker {
	pthread_t thread;
	bool started;
	int done_fd; /* eventfd: the job has ended */
	struct watch *watch;
	worker_done_fn done;
	void *data;
	bool busy; /* the owner's view: posted and done() not yet called */

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	worker_job_fn fn; /* NULL when no job is waiting or running */
	void *job;
	int result;
	bool quit;
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (!w->fn && !w->quit)
			pthread_cond_wait(&w->changed, &w->lock);
		if (!w->fn)
			break;
		worker_job_fn fn = w->fn;
		void *job = w->job;
		pthread_mutex_unlock(&w->lock);
		int result = fn(job);
		pthread_mutex_lock(&w->lock);
		w->result = result;
		w->fn = NULL;
		pthread_cond_broadcast(&w->changed);
		/* unlocked: who is woken wants the lock at once */
		pthread_mutex_unlock(&w->lock);
		eventfd_write(w->done_fd, 1);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void on_done(void *data)
{
	struct worker *w = data;
	eventfd_t count;
	if (eventfd_read(w->done_fd, &count) < 0)
		return;
	pthread_mutex_lock(&w->lock);
	int result = w->result;
	pthread_mutex_unlock(&w->lock);
	w->busy = false;
	w->done(w->data, result);
}

/* Signals are for the owner thread: the helper is started with all of them blocked. */
static int start_thread(struct worker *w, const char *name)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&w->thread, NULL, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return -r;
	w->started = true;
	pthread_setname_np(w->thread, name);
	return 0;
}

int worker_create(struct worker **worker_out, struct loop *loop, const char *name,
	worker_done_fn done, void *data)
{
	_cleanup_(worker_destroyp) struct worker *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	*w = (struct worker){ .done_fd = -EBADF, .done = done, .data = data };
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	w->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->done_fd < 0)
		return -errno;
	int r = loop_watch(loop, &w->watch, w->done_fd, LOOP_READ, on_done, w);
	if (r < 0)
		return r;
	r = start_thread(w, name);
	if (r < 0)
		return r;
	*worker_out = TAKE_PTR(w);
	return 0;
}

void worker_post(struct worker *w, worker_job_fn fn, void *job)
{
	assert(!w->busy);
	w->busy = true;
	pthread_mutex_lock(&w->lock);
	w->fn = fn;
	w->job = job;
	pthread_mutex_unlock(&w->lock);
	pthread_cond_broadcast(&w->changed);
}

bool worker_busy(const struct worker *w)
{
	return w->busy;
}

void worker_wait(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	while (w->fn)
		pthread_cond_wait(&w->changed, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

struct worker *worker_destroy(struct worker *w)
{
	if (!w)
		return NULL;
	pthread_mutex_lock(&w->lock);
	w->quit = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	if (w->started)
		pthread_join(w->thread, NULL);
	w->watch = watch_destroy(w->watch);
	fd_closep(&w->done_fd);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return NULL;
}
