/* `sluice ls`: what the broker knows of its streams and clients. */
#pragma once

/* argv[0] is "ls". Returns the exit status. */
int ls_main(int argc, char **argv);
