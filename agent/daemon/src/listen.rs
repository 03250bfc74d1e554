//! TCP addresses that settings name.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::Error;

/// Listens on the address of a setting, and says which one it became: port 0 is any that is free.
///
/// # Errors
/// The system refuses it.
pub(crate) fn on(address: SocketAddr, key: &'static str) -> Result<(TcpListener, SocketAddr), Error> {
    let bound = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        Ok((TcpListener::from_std(listener)?, bound))
    };
    bound().map_err(|source: io::Error| Error::Listen { key, address, source })
}
