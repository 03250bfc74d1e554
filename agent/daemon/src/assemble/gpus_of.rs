//! Which GPUs a server is on.

use perfwatch_model::snapshot::DeviceView;
use perfwatch_probes::ProcessList;

/// Generations from a process on a GPU to the one that speaks for its server.
const MAX_GENERATIONS: usize = 32;

/// The GPUs on which the server's processes, or what they started, hold memory; and those that they were given by UUID, or
/// by an unambiguous beginning of one, as CUDA takes it. `others` are the processes of all servers: what another server
/// started is not this one's.
pub(super) fn gpus_of(
    pids: &[u32],
    given: &[String],
    others: &[u32],
    devices: &[DeviceView],
    processes: Option<&ProcessList>,
) -> Vec<String> {
    let gpus = || devices.iter().filter_map(|device| Some((device, device.gpu.as_ref()?)));
    let uuid = |device: &DeviceView| device.id.strip_prefix("gpu:").unwrap_or(&device.id).to_owned();
    let is_given = |device: &DeviceView| {
        given.iter().any(|given| {
            let alike = gpus().filter(|(device, _)| uuid(device).starts_with(given.as_str())).count();
            uuid(device).starts_with(given.as_str()) && alike == 1
        })
    };
    let is_held = |pid: u32| {
        let mut pid = pid;
        for _ in 0..MAX_GENERATIONS {
            if pids.contains(&pid) {
                return true;
            }
            let row = processes.and_then(|list| list.get(pid));
            match row.filter(|row| !others.contains(&pid) && row.parent > 1) {
                Some(row) => pid = row.parent,
                None => return false,
            }
        }
        false
    };
    gpus()
        .filter(|(device, gpu)| gpu.processes.iter().any(|process| is_held(process.pid)) || is_given(device))
        .map(|(device, _)| device.id.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::snapshot::{GpuProcessView, GpuView};
    use perfwatch_probes::ProcessRow;

    fn gpu(uuid: &str, pids: &[u32]) -> DeviceView {
        let processes = pids.iter().map(|pid| GpuProcessView { pid: *pid, name: None, memory_bytes: None }).collect();
        DeviceView {
            id: format!("gpu:{uuid}"),
            kind: "gpu".to_owned(),
            name: uuid.to_owned(),
            ledger: None,
            cpu: None,
            gpu: Some(GpuView { processes, ..GpuView::default() }),
        }
    }

    fn row(pid: u32, parent: u32) -> ProcessRow {
        ProcessRow {
            pid,
            parent,
            start: 1,
            name: String::new(),
            command: String::new(),
            state: 'S',
            user_ns: 0,
            system_ns: 0,
            cpus: None,
            resident: 0,
            threads: 1,
        }
    }

    #[test]
    fn a_process_on_a_gpu_is_its_nearest_servers() {
        let devices = [gpu("GPU-a", &[12]), gpu("GPU-b", &[20]), gpu("GPU-c", &[99])];
        // 10 is a server that started 11, which started 12; and 20, a server of its own.
        let list = ProcessList { rows: vec![row(10, 1), row(11, 10), row(12, 11), row(20, 10)] };
        assert_eq!(gpus_of(&[10], &[], &[10, 20], &devices, Some(&list)), ["gpu:GPU-a"]);
        assert_eq!(gpus_of(&[20], &[], &[10, 20], &devices, Some(&list)), ["gpu:GPU-b"]);
        assert_eq!(gpus_of(&[20], &[], &[10, 20], &devices, None), ["gpu:GPU-b"], "without a list, itself");
    }

    #[test]
    fn a_uuid_or_a_beginning_of_just_one_is_enough() {
        let devices = [gpu("GPU-12-x", &[]), gpu("GPU-13-y", &[])];
        let of = |given: &str| gpus_of(&[], &[given.to_owned()], &[], &devices, None);
        assert_eq!(of("GPU-12-x"), ["gpu:GPU-12-x"]);
        assert_eq!(of("GPU-13"), ["gpu:GPU-13-y"]);
        assert!(of("GPU-1").is_empty() && of("GPU-7").is_empty());
    }
}
