/* Every size, offset, enum value and macro that programs of the reference were compiled with, on machines with 64-bit
 * pointers. Prints each that is otherwise. */
#include <ccoip.h>
#include <pccl.h>

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static int wrong;

static void is(const char *what, unsigned long found, unsigned long expected)
{
    if (found != expected) {
        fprintf(stderr, "%s is %lu, programs expect %lu\n", what, found, expected);
        wrong = 1;
    }
}

#define VALUE(name, expected) is(#name, (unsigned long)(name), (expected))
#define SIZE(type, expected) is("sizeof " #type, (unsigned long)sizeof(type), (expected))
#define FIELD(type, field, expected) is(#type "." #field, (unsigned long)offsetof(type, field), (expected))

#define TEXT(x) #x
#define EXPANDED(x) TEXT(x)

static void values(void)
{
    VALUE(pcclSuccess, 0); VALUE(pcclNotInitialized, 1); VALUE(pcclInternalError, 2);
    VALUE(pcclInvalidArgument, 3); VALUE(pcclInvalidUsage, 4); VALUE(pcclTooFewPeers, 5);
    VALUE(pcclMasterConnectionFailed, 6); VALUE(pcclRankConnectionFailed, 7);
    VALUE(pcclRankConnectionLost, 8); VALUE(pcclNoSharedStateAvailable, 9);
    VALUE(pcclPendingAsyncOps, 10); VALUE(pcclUpdateTopologyFailed, 11);
    VALUE(pcclTopologyOptimizationFailed, 12); VALUE(pcclTimeout, 100);
    VALUE(pcclUint8, 0); VALUE(pcclInt8, 1); VALUE(pcclInt16, 2); VALUE(pcclUint16, 3);
    VALUE(pcclUint32, 4); VALUE(pcclInt32, 5); VALUE(pcclUint64, 6); VALUE(pcclInt64, 7);
    VALUE(pcclFloat16, 8); VALUE(pcclBFloat16, 9); VALUE(pcclFloat, 10); VALUE(pcclDouble, 11);
    VALUE(pcclDeviceCpu, 0); VALUE(pcclDeviceCuda, 1);
    VALUE(pcclSum, 0); VALUE(pcclAvg, 1); VALUE(pcclProd, 2); VALUE(pcclMax, 3); VALUE(pcclMin, 4);
    VALUE(PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE, 1); VALUE(PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE, 2);
    VALUE(PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS, 3); VALUE(PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE, 4);
    VALUE(PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR, 0);
    VALUE(PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY, 1); VALUE(PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY, 2);
    VALUE(pcclDistributionNone, 0); VALUE(pcclDistributionNormal, 1); VALUE(pcclDistributionUniform, 2);
    VALUE(pcclQuantNone, 0); VALUE(pcclQuantMinMax, 1); VALUE(pcclQuantZeroPointScale, 2);
    VALUE(pcclQuantBits4, 3); VALUE(pcclQuantFloat8E4M3, 4); VALUE(pcclQuantFloat8E5M2, 5);
    VALUE(pcclQuantFloat16, 6); VALUE(pcclQuantBFloat16, 7);
    VALUE(inetIPv4, 0); VALUE(inetIPv6, 1);
    VALUE(CCOIP_PROTOCOL_PORT_MASTER, 48148); VALUE(CCOIP_PROTOCOL_PORT_SHARED_STATE, 48149);
    VALUE(CCOIP_PROTOCOL_PORT_P2P, 48150); VALUE(CCOIP_PROTOCOL_PORT_BANDWIDTH_BENCHMARK, 48151);
    is("PCCL_NULLABLE expands to nothing", strlen(EXPANDED(PCCL_NULLABLE)), 0);
}

static void addresses(void)
{
    SIZE(ccoip_ipv4_address_t, 4);
    SIZE(ccoip_ipv6_address_t, 16);
    SIZE(ccoip_inet_address_t, 24);
    FIELD(ccoip_inet_address_t, protocol, 0);
    FIELD(ccoip_inet_address_t, ipv4, 4);
    FIELD(ccoip_inet_address_t, ipv6, 8);
    SIZE(ccoip_socket_address_t, 28);
    FIELD(ccoip_socket_address_t, inet, 0);
    FIELD(ccoip_socket_address_t, port, 24);
    SIZE(pcclCommCreateParams_t, 36);
    FIELD(pcclCommCreateParams_t, master_address, 0);
    FIELD(pcclCommCreateParams_t, peer_group, 28);
    FIELD(pcclCommCreateParams_t, p2p_connection_pool_size, 32);
}

static void operations(void)
{
    SIZE(pcclReduceInfo_t, 24);
    FIELD(pcclReduceInfo_t, local_world_size, 0);
    FIELD(pcclReduceInfo_t, tx_bytes, 8);
    FIELD(pcclReduceInfo_t, rx_bytes, 16);
    SIZE(pcclReduceOperandDescriptor_t, 8);
    FIELD(pcclReduceOperandDescriptor_t, datatype, 0);
    FIELD(pcclReduceOperandDescriptor_t, distribution_hint, 4);
    SIZE(pcclQuantizationOptions_t, 8);
    FIELD(pcclQuantizationOptions_t, quantized_datatype, 0);
    FIELD(pcclQuantizationOptions_t, algorithm, 4);
    SIZE(pcclReduceDescriptor_t, 40);
    FIELD(pcclReduceDescriptor_t, count, 0);
    FIELD(pcclReduceDescriptor_t, op, 8);
    FIELD(pcclReduceDescriptor_t, tag, 16);
    FIELD(pcclReduceDescriptor_t, src_descriptor, 24);
    FIELD(pcclReduceDescriptor_t, quantization_options, 32);
    SIZE(pcclReduceOpDescriptor_t, 56);
    SIZE(struct pcclReduceSingleDescriptor_t, 56);
    FIELD(pcclReduceOpDescriptor_t, sendbuf, 0);
    FIELD(pcclReduceOpDescriptor_t, recvbuf, 8);
    FIELD(pcclReduceOpDescriptor_t, descriptor, 16);
    SIZE(pcclAsyncReduceOp_t, 16);
    FIELD(pcclAsyncReduceOp_t, comm, 0);
    FIELD(pcclAsyncReduceOp_t, tag, 8);
}

static void states(void)
{
    SIZE(pcclRankUuid_t, 16);
    SIZE(pcclTensorInfo_t, 40);
    FIELD(pcclTensorInfo_t, name, 0);
    FIELD(pcclTensorInfo_t, data, 8);
    FIELD(pcclTensorInfo_t, count, 16);
    FIELD(pcclTensorInfo_t, datatype, 24);
    FIELD(pcclTensorInfo_t, device_type, 28);
    FIELD(pcclTensorInfo_t, allow_content_inequality, 32);
    SIZE(pcclSharedState_t, 24);
    FIELD(pcclSharedState_t, revision, 0);
    FIELD(pcclSharedState_t, count, 8);
    FIELD(pcclSharedState_t, infos, 16);
    SIZE(pcclSharedStateSyncInfo_t, 16);
    FIELD(pcclSharedStateSyncInfo_t, tx_bytes, 0);
    FIELD(pcclSharedStateSyncInfo_t, rx_bytes, 8);
    SIZE(pcclBuildInfo_t, 1);
    SIZE(pcclStats_t, 96);
    FIELD(pcclStats_t, ops_reduced, 8);
    FIELD(pcclStats_t, wire_rx_bytes, 88);
}

int main(void)
{
    /* Opaque types may be pointed to. */
    pcclRankInfo_t *rank = NULL;
    pcclConfig_t *config = NULL;
    struct pcclComm_t *comm = NULL;
    struct pcclMasterInstanceState_t *master = NULL;

    if (sizeof(void *) != 8) {
        puts("layout.c: only told for 64-bit pointers");
        return 0;
    }
    values();
    addresses();
    operations();
    states();
    if (!wrong && !rank && !config && !comm && !master)
        puts("layout.c: all as programs expect it");
    return wrong;
}
