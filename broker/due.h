/*
 * Frames that are not made because nobody would have them: all who want the view have a maximum frame rate, and
 * a later one is nearer to the time when each is due. Whoever is owed one that was passed makes it be made.
 */
#pragma once

#include "broker/stream.h"

/* Would somebody have this frame of what the view is made from, if it were made? */
bool view_is_due(const struct view *view, const struct slot *of);

/* Nobody would: all leave it out, those of the views that are made from this one too. */
void view_pass(struct view *view, const struct slot *of);

/* The newest frame that the view has, or that was passed; 0: none. */
uint64_t view_dealt_with_seq(const struct view *view);

/* What was passed, here and in what this is made from, may be wanted now: the supply looks at it again. */
void view_look_again(struct view *view);

/* It is time that this subscriber had the newest frame, if that was left out: it is made if it was not. */
void view_catch_up(struct view *view, struct subscriber *s);
