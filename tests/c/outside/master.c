/* A master on a free port, which it prints; it ends when its input does. */
#include <pccl.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    ccoip_socket_address_t address;
    pcclMasterInstance_t *master = NULL;
    int c;

    memset(&address, 0, sizeof address);
    address.inet.ipv4.data[0] = 127;
    address.inet.ipv4.data[3] = 1;
    if (pcclCreateMaster(address, &master) != pcclSuccess || pcclRunMaster(master) != pcclSuccess ||
        pcclMasterGetAddress(master, &address) != pcclSuccess)
        return 1;
    printf("%u\n", (unsigned)address.port);
    fflush(stdout);
    do
        c = getchar();
    while (c != EOF);
    return pcclDestroyMaster(master) == pcclSuccess ? 0 : 1;
}
