/* machine: what this computer is and does, measured.  For doctor and bench. */
#ifndef AHA_CLI_MACHINE_H
#define AHA_CLI_MACHINE_H

#include "../cpu/cpu.h"
#include "cli.h"

/* Processor time of all kinds, and what the host of a virtual machine took of it (/proc/stat). */
typedef struct StolenTime {
    double all, stolen;
    bool   known;
} StolenTime;
StolenTime stolen_time(void);
double     machine_load(void); /* processes that want a core, over the last minute; -1: not known */
double     stolen_share(StolenTime from, StolenTime to); /* -1: not known */

const char *cpu_model_name(char dst[96]);
int         cpu_count(void); /* of the machine, usable or not */
uint64_t    memory_available(void); /* bytes that could be had now; 0: not known */

/* Bytes a second that the pool's threads read from memory together; 0 when there is no memory to try. */
double measure_memory(Pool *pool);
/* Multiply-adds a second of one kind of instruction, all threads: registers only, so nothing is faster.  In flop/s (two each). */
double measure_fma(Pool *pool, const char *isa);
/* What this program's own matrix product reaches, in flop/s. */
double measure_gemm(Pool *pool, const Kernels *k);
/* Bytes a second read from a file in `dir`, past the system's cache where it lets us, by four readers.  The file has no name and
 * goes with the process. */
typedef struct DiskSpeed {
    double read; /* bytes/s */
    bool   direct; /* O_DIRECT: the cache was really passed */
} DiskSpeed;
int measure_disk(DiskSpeed *out, const char *dir, size_t bytes, aha_error *e);

/* GPUs by the driver's own word: names, one a line.  Returns how many; 0 when there is no driver. */
int gpu_list(Buf *names);

#endif
