//! An NVML stand-in: exports NVML's C symbols and plays a scenario file.
