//! The one compression of OTLP. Requests are kept in it, so that the outbox is small and every attempt sends the same bytes.

use std::io::{self, Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

pub(crate) fn pack(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// # Errors
/// When it is not what [`pack`] makes.
pub(crate) fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::with_capacity(packed.len() * 4);
    GzDecoder::new(packed).read_to_end(&mut plain)?;
    Ok(plain)
}
