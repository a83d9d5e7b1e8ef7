/* The helper thread. Run under ThreadSanitizer too. */
#include "tests/test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/worker.h"
#include "tests/death.h"

struct job {
	int in;
	int out; /* plain on purpose: the worker orders it for both threads */
	unsigned ms;
	pthread_t thread;
	char name[16];
	int usr1_blocked;
};

struct owner {
	struct loop *loop;
	struct worker *worker;
	struct job *job;
	unsigned done;
	int result;
	unsigned jobs_left; /* posted anew from done() */
};

static int run_job(void *data)
{
	struct job *job = data;
	sigset_t blocked;
	usleep(job->ms * 1000);
	job->thread = pthread_self();
	pthread_getname_np(job->thread, job->name, sizeof(job->name));
	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	job->usr1_blocked = sigismember(&blocked, SIGUSR1);
	job->out = job->in * 2;
	return job->in;
}

static void on_done(void *data, int result)
{
	struct owner *o = data;
	o->done++;
	o->result = result;
	CHECK_EQ(o->job->out, o->job->in * 2);
	CHECK(!worker_busy(o->worker));
	if (o->jobs_left == 0) {
		loop_stop(o->loop);
		return;
	}
	o->jobs_left--;
	o->job->in++;
	worker_post(o->worker, run_job, o->job);
}

static void begin(struct owner *o, struct job *job)
{
	*o = (struct owner){ .job = job };
	CHECK_EQ(loop_create(&o->loop), 0);
	CHECK_EQ(worker_create(&o->worker, o->loop, "sluice-test", on_done, o), 0);
}

static void end(struct owner *o)
{
	o->worker = worker_destroy(o->worker);
	o->loop = loop_destroy(o->loop);
}

TEST(a_job_runs_on_the_thread_and_its_result_comes_back)
{
	struct owner o;
	struct job job = { .in = 21 };
	begin(&o, &job);
	CHECK(!worker_busy(o.worker));
	worker_post(o.worker, run_job, &job);
	CHECK(worker_busy(o.worker));
	CHECK_EQ(loop_run(o.loop), 0);
	CHECK_EQ(o.done, 1);
	CHECK_EQ(o.result, 21);
	CHECK_EQ(job.out, 42);
	CHECK(!pthread_equal(job.thread, pthread_self()));
	CHECK_STR(job.name, "sluice-test");
	CHECK_EQ(job.usr1_blocked, 1);
	end(&o);
}

TEST(done_may_post_the_next_job)
{
	struct owner o;
	struct job job = { .in = 0 };
	begin(&o, &job);
	o.jobs_left = 999;
	worker_post(o.worker, run_job, &job);
	CHECK_EQ(loop_run(o.loop), 0);
	CHECK_EQ(o.done, 1000);
	CHECK_EQ(job.in, 999);
	CHECK_EQ(o.result, 999);
	end(&o);
}

TEST(wait_returns_when_the_job_has_ended_and_done_is_still_called)
{
	struct owner o;
	struct job job = { .in = 4, .ms = 30 };
	begin(&o, &job);
	worker_wait(o.worker); /* nothing runs: returns at once */
	worker_post(o.worker, run_job, &job);
	worker_wait(o.worker);
	CHECK_EQ(job.out, 8);
	CHECK(worker_busy(o.worker));
	CHECK_EQ(o.done, 0);
	CHECK_EQ(loop_run(o.loop), 0);
	CHECK_EQ(o.done, 1);
	end(&o);
}

TEST(destroy_waits_for_the_job_and_does_not_call_done)
{
	struct owner o;
	struct job job = { .in = 4, .ms = 30 };
	begin(&o, &job);
	worker_post(o.worker, run_job, &job);
	end(&o);
	CHECK_EQ(job.out, 8);
	CHECK_EQ(o.done, 0);
}

TEST(a_thousand_workers_come_and_go)
{
	struct owner o;
	struct job job = { .in = 4 };
	for (unsigned i = 0; i < 1000 / test_slowness(); i++) {
		begin(&o, &job);
		if (i % 2)
			worker_post(o.worker, run_job, &job);
		end(&o);
	}
}

static void post_twice(void)
{
	struct owner o;
	struct job job = { .ms = 100 };
	begin(&o, &job);
	worker_post(o.worker, run_job, &job);
	worker_post(o.worker, run_job, &job);
}

TEST(posting_to_a_busy_worker_is_a_mistake)
{
	CHECK(dies(post_twice));
}

TEST(destroy_takes_nothing)
{
	CHECK(worker_destroy(NULL) == NULL);
}
