/* From the broker's objects to the protocol's messages about them. */
#pragma once

#include "broker/stream.h"
#include "proto/wire.h"

/* info_out's strings are the stream's. [lend] until the stream changes */
void describe_stream(const struct stream *stream, Sluice__StreamInfo *info_out);
