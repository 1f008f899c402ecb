//! The structs of `include/pccl.h`, field by field, and their translation. Enums come in as integers, since C
//! can put any integer there.

use std::ffi::{c_char, c_int, c_void};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pccl_core::error::Result;
use pccl_core::types::{DType, OpDescriptor, Quantization, ReduceOp};

use crate::communicator::Comm;
use crate::guard::invalid;

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

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CommCreateParams {
    pub master_address: SocketAddress,
    pub peer_group: u32,
    pub p2p_connection_pool_size: u32,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ReduceInfo {
    pub local_world_size: u32,
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ReduceOperandDescriptor {
    pub datatype: c_int,
    pub distribution_hint: c_int,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct QuantizationOptions {
    pub quantized_datatype: c_int,
    pub algorithm: c_int,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ReduceDescriptor {
    pub count: usize,
    pub op: c_int,
    pub tag: u64,
    pub src_descriptor: ReduceOperandDescriptor,
    pub quantization_options: QuantizationOptions,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AsyncReduceOp {
    pub comm: *mut Comm,
    pub tag: u64,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ReduceOpDescriptor {
    pub sendbuf: *mut c_void,
    pub recvbuf: *mut c_void,
    pub descriptor: ReduceDescriptor,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TensorInfo {
    pub name: *const c_char,
    pub data: *mut c_void,
    pub count: usize,
    pub datatype: c_int,
    pub device_type: c_int,
    pub allow_content_inequality: bool,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SharedState {
    pub revision: u64,
    pub count: usize,
    pub infos: *mut TensorInfo,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SharedStateSyncInfo {
    pub tx_bytes: u64,
    pub rx_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct BuildInfo {
    pub has_cuda_support: bool,
}

/// Grows at its end only: `struct_size` says how much of it the program knows.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Stats {
    pub struct_size: usize,
    pub ops_reduced: u64,
    pub ops_aborted: u64,
    pub ops_failed: u64,
    pub syncs: u64,
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    pub epochs: u64,
    pub links_up: u64,
    pub links_closed: u64,
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

pub fn dtype(code: c_int) -> Result<DType> {
    let known = u8::try_from(code).ok().and_then(DType::from_code);
    known.ok_or_else(|| invalid(format!("{code} is no data type")))
}

impl ReduceDescriptor {
    pub fn to_rust(self) -> Result<OpDescriptor> {
        let op = u8::try_from(self.op).ok().and_then(ReduceOp::from_code);
        let op = op.ok_or_else(|| invalid(format!("{} is no reduce operation", self.op)))?;
        let hint = self.src_descriptor.distribution_hint;
        if !(0..=2).contains(&hint) {
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
