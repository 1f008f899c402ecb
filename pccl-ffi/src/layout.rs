//! The structs of `include/pccl.h`, field by field, and their translation. Later options are settings by key
//! (`config`): none of these may change, but for `Stats`, which may grow at its end.

use std::ffi::{c_char, c_int, c_void};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pccl_core::error::Result;
use pccl_core::types::{DType, OpDescriptor, Quantization, ReduceOp};

use crate::communicator::Comm;
use crate::enums::{
    DataTypeCode, DeviceTypeCode, DistributionHintCode, QuantizationAlgorithmCode, RedOpCode,
    pcclDistributionHint_t,
};
use crate::guard::invalid;

/// A `bool` that C wrote, or never did: any byte but 0 is true.
pub type CBool = u8;

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct InetAddress {
    pub protocol: c_int,
    pub ipv4: [u8; 4],
    pub ipv6: [u8; 16],
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SocketAddress {
    pub inet: InetAddress,
    pub port: u16,
}

/// Where a communicator goes. Later options are settings by key, so this never changes: pcclConfig_t.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CommCreateParams {
    /// Of the master.
    pub master_address: SocketAddress,
    /// Operations and shared state span a group, membership spans the run.
    pub peer_group: u32,
    /// Connections of each pair; 0: the default.
    pub p2p_connection_pool_size: u32,
}

/// What an all-reduce, or a list of them, did.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ReduceInfo {
    /// Peers that took part.
    pub local_world_size: u32,
    /// Payload that this peer sent.
    pub tx_bytes: u64,
    /// Payload that this peer received.
    pub rx_bytes: u64,
}

/// The elements of an all-reduce.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ReduceOperandDescriptor {
    pub datatype: DataTypeCode,
    pub distribution_hint: DistributionHintCode,
}

/// What travels instead of the elements.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct QuantizationOptions {
    /// Ignored if the algorithm is pcclQuantNone.
    pub quantized_datatype: DataTypeCode,
    pub algorithm: QuantizationAlgorithmCode,
}

/// An all-reduce: the same at all peers of the group.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ReduceDescriptor {
    /// Elements, at least one.
    pub count: usize,
    pub op: RedOpCode,
    /// Names the operation among those in flight.
    pub tag: u64,
    pub src_descriptor: ReduceOperandDescriptor,
    pub quantization_options: QuantizationOptions,
}

/// An all-reduce in flight; awaited exactly once, before its communicator is destroyed.
///
/// A communicator and a tag are all it says. So a handle that was awaited already looks like that of a later operation of the
/// same tag: who awaits the old one again awaits the new one, and uses it up.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AsyncReduceOp {
    pub comm: *mut Comm,
    pub tag: u64,
}

/// One of several all-reduces. `sendbuf` is only read, unless `recvbuf` is the same.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ReduceSingleDescriptor {
    pub sendbuf: *mut c_void,
    pub recvbuf: *mut c_void,
    pub descriptor: ReduceDescriptor,
}

/// Programs know the struct by one name and its tag by the other.
pub type ReduceOpDescriptor = ReduceSingleDescriptor;

/// A peer, for programs that name the type; no function takes one.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RankUuid {
    pub data: [u8; 16],
}

/// A tensor of a shared state.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TensorInfo {
    /// UTF-8; names differ within a state.
    pub name: *const c_char,
    /// Contiguous; read, and received into in place. May be NULL if `count` is 0.
    pub data: *mut c_void,
    /// Elements; may be 0.
    pub count: usize,
    pub datatype: DataTypeCode,
    pub device_type: DeviceTypeCode,
    /// Its content may differ between peers: it has no vote, and goes to peers with an outdated revision only.
    pub allow_content_inequality: CBool,
}

/// Tensors that all peers of a group are to hold alike.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SharedState {
    /// Goes up by one between two synchronizations; a newcomer may have any lower one. Written back.
    pub revision: u64,
    /// Of `infos`.
    pub count: usize,
    pub infos: *mut TensorInfo,
}

/// Content of tensors that travelled, in whole blocks; both 0 if all held the same.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SharedStateSyncInfo {
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}

/// What a build can do.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BuildInfo {
    /// Whether tensors may be in memory of CUDA devices.
    pub has_cuda_support: bool,
}

/// Counts since the communicator was made, which only grow. Later versions may add fields at the end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Stats {
    /// Set it to sizeof(pcclStats_t) before the call: no more is written, and what the library does not know is 0.
    pub struct_size: usize,
    pub ops_reduced: u64,
    /// Ended with pcclRankConnectionLost.
    pub ops_aborted: u64,
    /// Ended with any other error.
    pub ops_failed: u64,
    /// Synchronizations of shared state that succeeded.
    pub syncs: u64,
    /// Payload of the operations that were reduced, and of the synchronizations.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// Epochs this peer has been a member of.
    pub epochs: u64,
    /// Data connections that came up.
    pub links_up: u64,
    /// Data connections that were closed.
    pub links_closed: u64,
    /// All that data connections have carried, framing included.
    pub wire_tx_bytes: u64,
    pub wire_rx_bytes: u64,
}

impl SocketAddress {
    pub fn to_rust(self) -> Result<SocketAddr> {
        let ip = match self.inet.protocol {
            0 => IpAddr::V4(Ipv4Addr::from(self.inet.ipv4)),
            1 => IpAddr::V6(Ipv6Addr::from(self.inet.ipv6)),
            other => return Err(invalid(format!("{other} is no address protocol"))),
        };
        Ok(SocketAddr::new(ip, self.port))
    }

    pub fn from_rust(address: SocketAddr) -> SocketAddress {
        let mut inet = InetAddress::default();
        match address.ip() {
            IpAddr::V4(ip) => inet.ipv4 = ip.octets(),
            IpAddr::V6(ip) => (inet.protocol, inet.ipv6) = (1, ip.octets()),
        }
        SocketAddress { inet, port: address.port() }
    }
}

const HINTS: [DistributionHintCode; 3] = [
    pcclDistributionHint_t::pcclDistributionNone as c_int,
    pcclDistributionHint_t::pcclDistributionNormal as c_int,
    pcclDistributionHint_t::pcclDistributionUniform as c_int,
];

pub fn dtype(code: c_int) -> Result<DType> {
    let known = u8::try_from(code).ok().and_then(DType::from_code);
    known.ok_or_else(|| invalid(format!("{code} is no data type")))
}

impl ReduceDescriptor {
    pub fn to_rust(self) -> Result<OpDescriptor> {
        let op = u8::try_from(self.op).ok().and_then(ReduceOp::from_code);
        let op = op.ok_or_else(|| invalid(format!("{} is no reduce operation", self.op)))?;
        let hint = self.src_descriptor.distribution_hint;
        if !HINTS.contains(&hint) {
            return Err(invalid(format!("{hint} is no distribution hint")));
        }
        let options = self.quantization_options;
        let integers = u8::try_from(options.quantized_datatype).ok().and_then(DType::from_code);
        let quantization = u8::try_from(options.algorithm).ok();
        let quantization = quantization.and_then(|algorithm| Quantization::from_codes(algorithm, integers));
        let quantization = quantization.ok_or_else(|| {
            let QuantizationOptions { algorithm, quantized_datatype } = options;
            invalid(format!("algorithm {algorithm} with data type {quantized_datatype} is no quantization"))
        })?;
        if self.count == 0 {
            return Err(invalid("count is 0"));
        }
        let dtype = dtype(self.src_descriptor.datatype)?;
        Ok(OpDescriptor { count: self.count as u64, dtype, op, quantization })
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod layout_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> ReduceDescriptor {
        ReduceDescriptor {
            count: 3,
            op: 0,
            tag: 7,
            src_descriptor: ReduceOperandDescriptor { datatype: 10, distribution_hint: 0 },
            quantization_options: QuantizationOptions { quantized_datatype: 99, algorithm: 0 },
        }
    }

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for text in ["127.0.0.1:48148", "[2001:db8::1]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddress::from_rust(address).to_rust(), Ok(address));
        }
        let odd = SocketAddress { inet: InetAddress { protocol: 2, ..Default::default() }, port: 1 };
        assert!(odd.to_rust().is_err());
    }

    #[test]
    fn the_quantized_type_is_ignored_without_quantization() {
        assert_eq!(descriptor().to_rust(), Ok(OpDescriptor::plain(3, DType::F32, ReduceOp::Sum)));
    }

    #[test]
    fn quantization_is_what_its_numbers_say() {
        let quantized = |algorithm, quantized_datatype| {
            let quantization_options = QuantizationOptions { quantized_datatype, algorithm };
            ReduceDescriptor { quantization_options, ..descriptor() }.to_rust().map(|op| op.quantization)
        };
        assert_eq!(quantized(1, 0), Ok(Quantization::MinMax(DType::U8)));
        assert_eq!(quantized(2, 3), Ok(Quantization::ZeroPointScale(DType::U16)));
        assert_eq!(quantized(3, 99), Ok(Quantization::Bits4));
    }

    #[test]
    fn every_number_out_of_range_is_refused() {
        let bad = [
            ReduceDescriptor { count: 0, ..descriptor() },
            ReduceDescriptor { op: 5, ..descriptor() },
            ReduceDescriptor { op: -1, ..descriptor() },
            ReduceDescriptor {
                src_descriptor: ReduceOperandDescriptor { datatype: 12, distribution_hint: 0 },
                ..descriptor()
            },
            ReduceDescriptor {
                src_descriptor: ReduceOperandDescriptor { datatype: 256, distribution_hint: 0 },
                ..descriptor()
            },
            ReduceDescriptor {
                src_descriptor: ReduceOperandDescriptor { datatype: 10, distribution_hint: 3 },
                ..descriptor()
            },
            ReduceDescriptor {
                quantization_options: QuantizationOptions { quantized_datatype: 0, algorithm: 8 },
                ..descriptor()
            },
            ReduceDescriptor {
                quantization_options: QuantizationOptions { quantized_datatype: 12, algorithm: 1 },
                ..descriptor()
            },
        ];
        for bad in bad {
            assert!(bad.to_rust().is_err(), "{bad:?}");
        }
    }
}
