/* What `sluice ls` shows, page by page. */
#pragma once

#include "broker/client.h"

/* Answer a StatusRequest. */
void status_answer(struct client *client, const Sluice__StatusRequest *request);
