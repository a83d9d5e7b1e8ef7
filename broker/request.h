/* What a Subscribe asks for, and what of it can be had. Decides only. */
#pragma once

#include "broker/client.h"

/* Converted views of one stream that one user's clients may have, unless it is the broker's own user: the
 * rest is for others. What those are made from is not counted. */
enum { REQUEST_VIEWS_PER_USER = STREAM_CONVERTED_MAX / 2 };

/* The form that is asked for. 0, or an error code with a sentence. */
int request_form(
	const Sluice__Subscribe *request, struct form *form_out, char *text, size_t text_size);

/**
 * The view of the stream's own form in the memory that is asked for.
 *
 * view_out  [lend] as long as its stream
 *
 * 0, or an error code with a sentence.
 */
int request_view(const struct client *client, const Sluice__Subscribe *request,
	struct view **view_out, char *text, size_t text_size);

/**
 * The view that has this form, if the stream's own has not: made if need be.
 *
 * view  that of the stream's own form; replaced
 *
 * 0, or an error code with a sentence.
 */
int request_converted(const struct client *client, const struct form *form, struct view **view,
	char *text, size_t text_size);

/* How frames are to be delivered. 0, or an error code with a sentence. */
int request_options(const Sluice__Subscribe *request, struct subscriber_options *options_out,
	char *text, size_t text_size);

/* The readiness that is granted; if it is not what was wanted, the note says why. */
Sluice__Readiness request_readiness(
	const struct view *view, Sluice__Readiness wanted, char *note, size_t note_size);
