//! Listening sockets, and what to say when there is none to be had.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::LISTEN_BACKLOG;

/// Binds without blocking reads. The text of an error names the address and what to do.
pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    try_bind(address).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                "the port is in use: stop the process that has it, or choose another port"
            }
            ErrorKind::AddrNotAvailable => "no network interface of this machine has that address",
            ErrorKind::PermissionDenied => "ports below 1024 need special rights: choose a higher one",
            _ => "check the address",
        };
        format!("cannot listen on {address}: {error}; {advice}")
    })
}

fn try_bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // On Windows the option would let two processes share one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // The unspecified address takes IPv4 too; a specific one is meant as it is written.
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The address to listen on behind `host:port`; may ask the system's resolver.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| {
        format!("{text:?} is no address to listen on ({error}): write host:port, as 0.0.0.0:48148")
    })?;
    found.next().ok_or_else(|| format!("{text:?} has no address on this machine"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_what_to_do() {
        let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert!(error.contains(&address.to_string()) && error.contains("choose another port"), "{error}");
    }

    #[test]
    fn a_foreign_address_is_named_with_what_to_do() {
        let error = bind("192.0.2.7:0".parse().unwrap()).unwrap_err();
        assert!(error.contains("192.0.2.7") && error.contains("no network interface"), "{error}");
    }

    #[test]
    fn what_is_no_address_is_told_how_to_write_one() {
        assert!(listen_address("here").unwrap_err().contains("host:port"));
        assert_eq!(listen_address("[::1]:7").unwrap(), "[::1]:7".parse().unwrap());
    }
}
