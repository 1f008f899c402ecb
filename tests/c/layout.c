/* Prints every size, offset, enum value and macro of the headers, a line each: `name value`, and `type.field offset size`. They
 * are compared with include/pccl.layout, which has what programs of the reference were compiled with, where pointers have 64 bits. */
#include <ccoip.h>
#include <pccl.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define VALUE(name) printf("%s %d\n", #name, (int)(name))
#define SIZE(type) printf("sizeof(%s) %lu\n", #type, (unsigned long)sizeof(type))
#define FIELD(type, field) \
    printf("%s.%s %lu %lu\n", #type, #field, (unsigned long)offsetof(type, field), \
           (unsigned long)sizeof(((const type *)0)->field))

#define TEXT(x) #x
#define EXPANDED(x) TEXT(x)

static void values(void)
{
    VALUE(pcclSuccess); VALUE(pcclNotInitialized); VALUE(pcclInternalError); VALUE(pcclInvalidArgument);
    VALUE(pcclInvalidUsage); VALUE(pcclTooFewPeers); VALUE(pcclMasterConnectionFailed);
    VALUE(pcclRankConnectionFailed); VALUE(pcclRankConnectionLost); VALUE(pcclNoSharedStateAvailable);
    VALUE(pcclPendingAsyncOps); VALUE(pcclUpdateTopologyFailed); VALUE(pcclTopologyOptimizationFailed);
    VALUE(pcclTimeout); VALUE(pcclUint8); VALUE(pcclInt8); VALUE(pcclInt16); VALUE(pcclUint16); VALUE(pcclUint32);
    VALUE(pcclInt32); VALUE(pcclUint64); VALUE(pcclInt64); VALUE(pcclFloat16); VALUE(pcclBFloat16); VALUE(pcclFloat);
    VALUE(pcclDouble); VALUE(pcclDeviceCpu); VALUE(pcclDeviceCuda); VALUE(pcclSum); VALUE(pcclAvg); VALUE(pcclProd);
    VALUE(pcclMax); VALUE(pcclMin); VALUE(PCCL_ATTRIBUTE_GLOBAL_WORLD_SIZE);
    VALUE(PCCL_ATTRIBUTE_PEER_GROUP_WORLD_SIZE); VALUE(PCCL_ATTRIBUTE_NUM_DISTINCT_PEER_GROUPS);
    VALUE(PCCL_ATTRIBUTE_LARGEST_PEER_GROUP_WORLD_SIZE); VALUE(PCCL_SHARED_STATE_SYNC_STRATEGY_ENFORCE_POPULAR);
    VALUE(PCCL_SHARED_STATE_SYNC_STRATEGY_RECEIVE_ONLY); VALUE(PCCL_SHARED_STATE_SYNC_STRATEGY_SEND_ONLY);
    VALUE(pcclDistributionNone); VALUE(pcclDistributionNormal); VALUE(pcclDistributionUniform); VALUE(pcclQuantNone);
    VALUE(pcclQuantMinMax); VALUE(pcclQuantZeroPointScale); VALUE(pcclQuantBits4); VALUE(pcclQuantFloat8E4M3);
    VALUE(pcclQuantFloat8E5M2); VALUE(pcclQuantFloat16); VALUE(pcclQuantBFloat16); VALUE(inetIPv4); VALUE(inetIPv6);
}

static void macros(void)
{
    VALUE(CCOIP_PROTOCOL_PORT_MASTER); VALUE(CCOIP_PROTOCOL_PORT_SHARED_STATE); VALUE(CCOIP_PROTOCOL_PORT_P2P);
    VALUE(CCOIP_PROTOCOL_PORT_BANDWIDTH_BENCHMARK);
    puts("PCCL_EXPORT " EXPANDED(PCCL_EXPORT));
    puts("PCCL_NULLABLE" EXPANDED(PCCL_NULLABLE));
}

static void enums(void)
{
    SIZE(pcclResult_t); SIZE(pcclDataType_t); SIZE(pcclDeviceType_t); SIZE(pcclRedOp_t); SIZE(pcclAttribute_t);
    SIZE(pcclSharedStateSyncStrategy_t); SIZE(pcclDistributionHint_t); SIZE(pcclQuantizationAlgorithm_t);
    SIZE(ccoip_inet_protocol_t);
}

static void structs(void)
{
    SIZE(ccoip_ipv4_address_t);
    FIELD(ccoip_ipv4_address_t, data);
    SIZE(ccoip_ipv6_address_t);
    FIELD(ccoip_ipv6_address_t, data);
    SIZE(ccoip_inet_address_t);
    FIELD(ccoip_inet_address_t, protocol); FIELD(ccoip_inet_address_t, ipv4); FIELD(ccoip_inet_address_t, ipv6);
    SIZE(ccoip_socket_address_t);
    FIELD(ccoip_socket_address_t, inet); FIELD(ccoip_socket_address_t, port);
    SIZE(pcclCommCreateParams_t);
    FIELD(pcclCommCreateParams_t, master_address); FIELD(pcclCommCreateParams_t, peer_group);
    FIELD(pcclCommCreateParams_t, p2p_connection_pool_size);
    SIZE(pcclReduceInfo_t);
    FIELD(pcclReduceInfo_t, local_world_size); FIELD(pcclReduceInfo_t, tx_bytes); FIELD(pcclReduceInfo_t, rx_bytes);
    SIZE(pcclReduceOperandDescriptor_t);
    FIELD(pcclReduceOperandDescriptor_t, datatype); FIELD(pcclReduceOperandDescriptor_t, distribution_hint);
    SIZE(pcclQuantizationOptions_t);
    FIELD(pcclQuantizationOptions_t, quantized_datatype); FIELD(pcclQuantizationOptions_t, algorithm);
    SIZE(pcclReduceDescriptor_t);
    FIELD(pcclReduceDescriptor_t, count); FIELD(pcclReduceDescriptor_t, op); FIELD(pcclReduceDescriptor_t, tag);
    FIELD(pcclReduceDescriptor_t, src_descriptor); FIELD(pcclReduceDescriptor_t, quantization_options);
    SIZE(pcclReduceOpDescriptor_t);
    FIELD(pcclReduceOpDescriptor_t, sendbuf); FIELD(pcclReduceOpDescriptor_t, recvbuf);
    FIELD(pcclReduceOpDescriptor_t, descriptor);
    SIZE(pcclAsyncReduceOp_t);
    FIELD(pcclAsyncReduceOp_t, comm); FIELD(pcclAsyncReduceOp_t, tag);
    SIZE(pcclRankUuid_t);
    FIELD(pcclRankUuid_t, data);
    SIZE(pcclTensorInfo_t);
    FIELD(pcclTensorInfo_t, name); FIELD(pcclTensorInfo_t, data); FIELD(pcclTensorInfo_t, count);
    FIELD(pcclTensorInfo_t, datatype); FIELD(pcclTensorInfo_t, device_type);
    FIELD(pcclTensorInfo_t, allow_content_inequality);
    SIZE(pcclSharedState_t);
    FIELD(pcclSharedState_t, revision); FIELD(pcclSharedState_t, count); FIELD(pcclSharedState_t, infos);
    SIZE(pcclSharedStateSyncInfo_t);
    FIELD(pcclSharedStateSyncInfo_t, tx_bytes); FIELD(pcclSharedStateSyncInfo_t, rx_bytes);
    SIZE(pcclBuildInfo_t);
    FIELD(pcclBuildInfo_t, has_cuda_support);
    SIZE(pcclStats_t);
    FIELD(pcclStats_t, struct_size); FIELD(pcclStats_t, ops_reduced); FIELD(pcclStats_t, ops_aborted);
    FIELD(pcclStats_t, ops_failed); FIELD(pcclStats_t, syncs); FIELD(pcclStats_t, tx_bytes);
    FIELD(pcclStats_t, rx_bytes); FIELD(pcclStats_t, epochs); FIELD(pcclStats_t, links_up);
    FIELD(pcclStats_t, links_closed); FIELD(pcclStats_t, wire_tx_bytes); FIELD(pcclStats_t, wire_rx_bytes);
    SIZE(struct pcclReduceSingleDescriptor_t);
}

int main(void)
{
    /* Opaque types may be pointed to. */
    pcclRankInfo_t *rank = NULL;
    pcclConfig_t *config = NULL;
    struct pcclComm_t *comm = NULL;
    struct pcclMasterInstanceState_t *master = NULL;
    pcclMasterInstance_t *instance = master;

    SIZE(void *);
    SIZE(size_t);
    SIZE(bool);
    values();
    macros();
    enums();
    structs();
    return rank || config || comm || instance;
}
