/* What --help and --version print on stdout. */
#pragma once

void help_print(void);
void help_print_version(void);
