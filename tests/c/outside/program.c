/* The least that a program outside the tree does with the installed library: C99 and C++ alike. */
#include <ccoip.h>
#include <pccl.h>

#include <stdio.h>
#include <string.h>

static int done(const char *what, pcclResult_t result)
{
    char words[512] = "";
    if (result == pcclSuccess)
        return 1;
    pcclGetLastError(words, sizeof words);
    fprintf(stderr, "%s: %s (%s)\n", what, pcclGetErrorString(result), words);
    return 0;
}

int main(void)
{
    pcclMasterInstance_t *master = NULL;
    pcclComm_t *comm = NULL;
    pcclCommCreateParams_t params;
    int major = 0, minor = 0, patch = 0, size = 0;

    memset(&params, 0, sizeof params);
    params.master_address.inet.protocol = inetIPv4;
    params.master_address.inet.ipv4.data[0] = 127;
    params.master_address.inet.ipv4.data[3] = 1;
    if (!done("version", pcclGetVersion(&major, &minor, &patch)) || !done("init", pcclInit()) ||
        !done("master", pcclCreateMaster(params.master_address, &master)) ||
        !done("run", pcclRunMaster(master)) ||
        !done("address", pcclMasterGetAddress(master, &params.master_address)) ||
        !done("communicator", pcclCreateCommunicator(&params, &comm)) || !done("connect", pcclConnect(comm)) ||
        !done("size", pcclGetAttribute(comm, PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, &size)) ||
        !done("leave", pcclDestroyCommunicator(comm)) || !done("end", pcclDestroyMaster(master)))
        return 1;
    printf("pccl %d.%d.%d, a run of %d\n", major, minor, patch, size);
    return size == 1 ? 0 : 1;
}
