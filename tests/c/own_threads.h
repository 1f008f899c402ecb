/* How many threads this process has. For programs that load the library by themselves, too: it needs nothing of it. */
#ifndef OWN_THREADS_H
#define OWN_THREADS_H

#include <stdio.h>
#include <stdlib.h>

/* One figure, read at once: a listing of /proc/self/task ends early if a thread dies under it. The system may count a thread for a
 * moment after it was joined. */
static inline int own_threads(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    int count = 0;

    while (status && count == 0 && fgets(line, sizeof line, status))
        if (sscanf(line, "Threads: %d", &count) != 1)
            count = 0;
    if (count == 0) {
        fputs("own_threads.h: /proc/self/status does not tell the number of threads\n", stderr);
        exit(1);
    }
    fclose(status);
    return count;
}

#endif /* OWN_THREADS_H */
