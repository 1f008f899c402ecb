/* A peer of bench/python_call.py that calls the C library: PORT of the master on this machine, BYTES of a buffer. For each line
 * "all_reduce N" or "world_size N" on its input it makes N such calls and prints how long one took, in microseconds: the
 * median, and the processor time of the calling thread. */
#define _POSIX_C_SOURCE 200809L

#include <pccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void ok(pcclResult_t result, const char *call)
{
    char words[512] = "";
    if (result == pcclSuccess)
        return;
    pcclGetLastError(words, sizeof words);
    fprintf(stderr, "%s: %s (%s)\n", call, pcclGetErrorString(result), words);
    exit(1);
}

static double now_us(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (double)at.tv_sec * 1e6 + (double)at.tv_nsec / 1e3;
}

static int world_size(pcclComm_t *comm)
{
    int size = 0;
    ok(pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size), "pcclGetAttribute");
    return size;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    pcclCommCreateParams_t params;
    memset(&params, 0, sizeof params);
    params.master_address.inet.protocol = inetIPv4;
    params.master_address.inet.ipv4.data[0] = 127;
    params.master_address.inet.ipv4.data[3] = 1;
    params.master_address.port = (uint16_t)atoi(argv[1]);
    size_t bytes = (size_t)atol(argv[2]);
    float *buffer = calloc(bytes, 1);
    pcclComm_t *comm = NULL;
    ok(pcclInit(), "pcclInit");
    ok(pcclCreateCommunicator(&params, &comm), "pcclCreateCommunicator");
    ok(pcclConnect(comm), "pcclConnect");
    while (world_size(comm) < 2)
        ok(pcclUpdateTopology(comm), "pcclUpdateTopology");
    pcclReduceDescriptor_t sum;
    memset(&sum, 0, sizeof sum);
    sum.count = bytes / sizeof(float);
    sum.op = pcclSum;
    sum.src_descriptor.datatype = pcclFloat;

    char what[32];
    long count;
    while (scanf("%31s %ld", what, &count) == 2 && count > 0) {
        double *took = calloc((size_t)count, sizeof *took);
        double cpu = now_us(CLOCK_THREAD_CPUTIME_ID);
        for (long i = 0; i < count; i++) {
            pcclReduceInfo_t info;
            double begun = now_us(CLOCK_MONOTONIC);
            if (strcmp(what, "world_size") == 0)
                (void)world_size(comm);
            else
                ok(pcclAllReduce(buffer, buffer, &sum, comm, &info), "pcclAllReduce");
            took[i] = now_us(CLOCK_MONOTONIC) - begun;
        }
        cpu = (now_us(CLOCK_THREAD_CPUTIME_ID) - cpu) / (double)count;
        qsort(took, (size_t)count, sizeof *took, by_size);
        printf("%.3f %.3f\n", took[count / 2], cpu);
        fflush(stdout);
        free(took);
    }
    ok(pcclDestroyCommunicator(comm), "pcclDestroyCommunicator");
    free(buffer);
    return 0;
}
