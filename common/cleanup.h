/* Ownership of local pointers: the cleanup attribute and the hand-over. */
#pragma once

#include <stdlib.h>

#define _cleanup_(fn) __attribute__((cleanup(fn)))

/* Give the pointer away: the local is NULL afterwards, so its cleanup does nothing. */
#define TAKE_PTR(p)                         \
	({                                  \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;                 \
		taken_;                     \
	})

static inline void freep(void *p)
{
	free(*(void **)p);
}

#define _cleanup_free_ _cleanup_(freep)

/* Define xp() for a destructor x() that takes a pointer and returns NULL. */
#define DEFINE_CLEANUP(type, destroy)          \
	static inline void destroy##p(type *p) \
	{                                      \
		if (*p)                        \
			*p = destroy(*p);      \
	}                                      \
	struct cleanup_needs_a_semicolon
