/* The last line of standard error, which a bar may hold.  For progress.c. */
#ifndef AHA_CLI_TERM_H
#define AHA_CLI_TERM_H

#include <stddef.h>

void bar_draw(const char *line, size_t n); /* in place of the one before */
void bar_remove(void);

#endif
