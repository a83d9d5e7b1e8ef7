/* Intrusive doubly linked list. Remove also re-initialises, so a second remove is harmless. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev;
	struct list *next;
};

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/* Add in front of `at`: list_insert(&head, x) appends to the list. */
static inline void list_insert(struct list *at, struct list *elem)
{
	elem->prev = at->prev;
	elem->next = at;
	at->prev->next = elem;
	at->prev = elem;
}

static inline void list_remove(struct list *elem)
{
	elem->prev->next = elem->next;
	elem->next->prev = elem->prev;
	list_init(elem);
}

/* The first or the last entry, or NULL. */
#define list_first(head, type, member) \
	(list_empty(head) ? NULL : container_of((head)->next, type, member))
#define list_last(head, type, member) \
	(list_empty(head) ? NULL : container_of((head)->prev, type, member))

#define list_for_each(pos, head, member)                                                         \
	for (pos = container_of((head)->next, __typeof__(*pos), member); &pos->member != (head); \
		pos = container_of(pos->member.next, __typeof__(*pos), member))

/* As above; the entry of this round may be removed and destroyed, no other. */
#define list_for_each_safe(pos, tmp, head, member)                          \
	for (pos = container_of((head)->next, __typeof__(*pos), member),    \
	    tmp = container_of(pos->member.next, __typeof__(*pos), member); \
		&pos->member != (head);                                     \
		pos = tmp, tmp = container_of(tmp->member.next, __typeof__(*pos), member))
