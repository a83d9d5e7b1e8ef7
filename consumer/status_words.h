/* The numbers of a status in words, for people and JSON. They live for ever. */
#pragma once

#include "proto/wire.h"

static inline const char *status_memory_word(Sluice__Memory memory)
{
	switch (memory) {
	case SLUICE__MEMORY__MEMORY_HOST:
		return "host";
	case SLUICE__MEMORY__MEMORY_OPAQUE_FD:
		return "opaque-fd";
	case SLUICE__MEMORY__MEMORY_DMA_BUF:
		return "dma-buf";
	default:
		return "unknown";
	}
}

static inline const char *status_readiness_word(Sluice__Readiness readiness)
{
	switch (readiness) {
	case SLUICE__READINESS__READINESS_COMPLETE:
		return "complete";
	case SLUICE__READINESS__READINESS_TIMELINE:
		return "timeline";
	case SLUICE__READINESS__READINESS_SYNC_FD:
		return "sync-fd";
	default:
		return "unknown";
	}
}

static inline const char *status_state_word(Sluice__StreamState state)
{
	return state == SLUICE__STREAM_STATE__STREAM_LIVE ? "live" : "waiting";
}

static inline const char *status_delivery_word(Sluice__Delivery delivery)
{
	return delivery == SLUICE__DELIVERY__DELIVERY_FIFO ? "fifo" : "mailbox";
}
