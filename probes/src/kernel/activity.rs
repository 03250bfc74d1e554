//! What one process had read and written, where it faulted, and how often its threads changed.

use std::path::Path;

use super::counter::Rising;
use super::held::HeldFile;
use super::parse;

/// `/proc/pid/io`: bytes that reached block devices, of threads that have ended too.
pub(crate) struct ProcessIo {
    file: Option<HeldFile>,
    totals: [Rising; 2],
}

impl ProcessIo {
    pub(crate) fn open(process: &Path) -> Self {
        Self { file: HeldFile::open(&process.join("io")).ok(), totals: [Rising::default(); 2] }
    }

    /// Bytes read and written since the process began; `None` where the kernel does not tell: it asks at each read whether
    /// the reader might debug the process.
    pub(crate) fn bytes(&mut self) -> Option<[u64; 2]> {
        let mut buffer = [0; 256];
        let text = self.file.as_ref()?.read_start(&mut buffer).ok()?;
        let (read, written) = (parse::keyed(text, b"read_bytes:")?, parse::keyed(text, b"write_bytes:")?);
        let [total_read, total_written] = &mut self.totals;
        Some([total_read.follow(read), total_written.follow(written)])
    }
}

/// Voluntary and involuntary context switches in the text of a thread's `status`.
pub(crate) fn switches(status: &[u8]) -> Option<[u64; 2]> {
    Some([parse::keyed(status, b"voluntary_ctxt_switches:")?, parse::keyed(status, b"nonvoluntary_ctxt_switches:")?])
}

/// Minor and major page faults, from the fields of `/proc/pid/stat` after the name, where the first is 3.
pub(crate) fn faults<'t>(mut fields: impl Iterator<Item = &'t [u8]>) -> Option<[u64; 2]> {
    Some([parse::only_number(fields.nth(10 - 3)?)?, parse::only_number(fields.nth(12 - 11)?)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_io_is_told_and_a_process_that_hides_it_has_none() {
        assert!(ProcessIo::open(Path::new("/proc/self")).bytes().is_some());
        assert_eq!(ProcessIo::open(Path::new("/nonexistent")).bytes(), None);
    }

    #[test]
    fn one_kind_of_switch_is_not_mistaken_for_the_other() {
        let status = b"Name:\tx\nvoluntary_ctxt_switches:\t15\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(switches(status), Some([15, 7]));
        assert_eq!(switches(b"Name:\tx\n"), None);
    }

    #[test]
    fn faults_stand_where_the_manual_says() {
        let (_, fields) =
            parse::stat_fields(b"7 (x) S 17 4021 4021 0 -1 4194304 900 1 3 2 250 40").expect("well formed");
        assert_eq!(faults(fields), Some([900, 3]));
    }
}
