//! The structs as the library reads them, against include/pccl.layout, which C programs are held to as well.

use std::fs;
use std::path::Path;

use super::*;

/// As tests/c/layout.c prints them.
macro_rules! lines {
    ($($name:literal $type:ty { $($field:ident: $of:ty),* })*) => {{
        let mut lines = Vec::new();
        $(
            lines.push(format!("sizeof({}) {}", $name, size_of::<$type>()));
            $(lines.push(format!(
                "{}.{} {} {}", $name, stringify!($field), std::mem::offset_of!($type, $field), size_of::<$of>()
            ));)*
            // Whoever writes another type here than the field has is told by the compiler.
            let _ = |all: &$type| { $(let _: &$of = &all.$field;)* };
        )*
        lines
    }};
}

#[test]
fn structs_lie_as_programs_of_the_reference_have_them() {
    if cfg!(not(target_pointer_width = "64")) {
        return;
    }
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/pccl.layout");
    let list = fs::read_to_string(list).unwrap();
    let lines = lines! {
        "ccoip_inet_address_t" InetAddress { protocol: c_int, ipv4: [u8; 4], ipv6: [u8; 16] }
        "ccoip_socket_address_t" SocketAddress { inet: InetAddress, port: u16 }
        "pcclCommCreateParams_t" CommCreateParams {
            master_address: SocketAddress, peer_group: u32, p2p_connection_pool_size: u32
        }
        "pcclReduceInfo_t" ReduceInfo { local_world_size: u32, tx_bytes: u64, rx_bytes: u64 }
        "pcclReduceOperandDescriptor_t" ReduceOperandDescriptor {
            datatype: DataTypeCode, distribution_hint: DistributionHintCode
        }
        "pcclQuantizationOptions_t" QuantizationOptions {
            quantized_datatype: DataTypeCode, algorithm: QuantizationAlgorithmCode
        }
        "pcclReduceDescriptor_t" ReduceDescriptor {
            count: usize, op: RedOpCode, tag: u64, src_descriptor: ReduceOperandDescriptor,
            quantization_options: QuantizationOptions
        }
        "pcclReduceOpDescriptor_t" ReduceOpDescriptor {
            sendbuf: *mut c_void, recvbuf: *mut c_void, descriptor: ReduceDescriptor
        }
        "pcclAsyncReduceOp_t" AsyncReduceOp { comm: *mut Comm, tag: u64 }
        "pcclRankUuid_t" RankUuid { data: [u8; 16] }
        "pcclTensorInfo_t" TensorInfo {
            name: *const c_char, data: *mut c_void, count: usize, datatype: DataTypeCode,
            device_type: DeviceTypeCode, allow_content_inequality: CBool
        }
        "pcclSharedState_t" SharedState { revision: u64, count: usize, infos: *mut TensorInfo }
        "pcclSharedStateSyncInfo_t" SharedStateSyncInfo { tx_bytes: u64, rx_bytes: u64 }
        "pcclBuildInfo_t" BuildInfo { has_cuda_support: bool }
        "pcclStats_t" Stats {
            struct_size: usize, ops_reduced: u64, ops_aborted: u64, ops_failed: u64, syncs: u64, tx_bytes: u64,
            rx_bytes: u64, epochs: u64, links_up: u64, links_closed: u64, wire_tx_bytes: u64, wire_rx_bytes: u64
        }
    };
    let is_struct = |line: &&str| line.contains('.') || (line.starts_with("sizeof(") && line.contains("_t)"));
    // Plain arrays are no structs here, enums are integers, and one tag is another name of what is there.
    let elsewhere = ["ccoip_ipv4_address_t", "ccoip_ipv6_address_t", "(struct ", "(size_t)"];
    let enums = [
        "pcclResult_t",
        "pcclDataType_t",
        "pcclDeviceType_t",
        "pcclRedOp_t",
        "pcclAttribute_t",
        "pcclSharedStateSyncStrategy_t",
        "pcclDistributionHint_t",
        "pcclQuantizationAlgorithm_t",
        "ccoip_inet_protocol_t",
    ];
    let is_here = |line: &&str| !elsewhere.iter().any(|name| line.contains(name));
    let is_no_enum = |line: &&str| !enums.iter().any(|name| line.starts_with(&format!("sizeof({name})")));
    let wanted: Vec<&str> = list.lines().filter(is_struct).filter(is_here).filter(is_no_enum).collect();
    assert_eq!(lines, wanted);
    for name in enums {
        assert!(list.contains(&format!("sizeof({name}) {}\n", size_of::<c_int>())), "{name}");
    }
}
