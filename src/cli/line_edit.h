/* line_edit: messages from a person, with history, editing and pasted text of many lines; or lines from a pipe. */
#ifndef AHA_CLI_LINE_EDIT_H
#define AHA_CLI_LINE_EDIT_H

#include "cli.h"

typedef struct LineEdit LineEdit;
typedef enum LineResult { LINE_END, LINE_MESSAGE, LINE_INTERRUPTED } LineResult;
LineEdit  *line_open(const char *prompt, aha_error *e); /* prompt: kept */
void       line_close(LineEdit *l);
/* The next message, without its last newline.  LINE_INTERRUPTED: Ctrl-C; what was typed is dropped. */
LineResult line_read(LineEdit *l, Buf *out);

#endif
