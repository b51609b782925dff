#ifndef AHA_MODEL_SETTLE_H
#define AHA_MODEL_SETTLE_H

#include "model.h"

typedef struct Settler Settler;
int  settler_new(Model *m, aha_error *e);
void settler_free(Settler *s); /* stops, waits, frees what was copied; NULL is fine */

#endif
