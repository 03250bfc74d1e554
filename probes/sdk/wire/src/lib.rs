//! The probe socket's protocol: bytes in, types out.
