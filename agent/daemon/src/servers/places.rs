//! What servers run in: the control group of their processes, and the container that its path names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use perfwatch_model::EntityId;
use perfwatch_model::printable;
use perfwatch_model::snapshot::PlaceView;

use crate::probe_socket::WorkerUsage;

/// Hexadecimal digits of a container's id, with every runtime that writes it into the control group's path.
const CONTAINER_ID: usize = 64;

/// Where each server is. A path is read when a server's processes change, not each tick.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: HashMap<EntityId, Known>,
}

#[derive(Debug)]
struct Known {
    pids: Vec<u32>,
    /// Which connections spoke for it.
    peers: Vec<usize>,
    place: PlaceView,
    /// UUIDs of GPUs that its processes say they were given.
    given: Vec<String>,
}

impl Places {
    /// Takes in who there is; forgets the others. `workers` are empty for a server that does not use the SDK.
    pub(super) fn refresh<'a>(&mut self, servers: impl Iterator<Item = (EntityId, &'a [u32], &'a [WorkerUsage])>) {
        let mut before = std::mem::take(&mut self.known);
        for (entity, pids, workers) in servers {
            let peers: Vec<usize> = workers.iter().map(|worker| Arc::as_ptr(&worker.peer) as usize).collect();
            let known = before.remove(&entity).filter(|known| known.pids == pids && known.peers == peers);
            let known = known.unwrap_or_else(|| Known {
                place: place(Path::new("/proc"), pids, workers),
                given: given(workers),
                pids: pids.to_vec(),
                peers,
            });
            self.known.insert(entity, known);
        }
    }

    /// Where a server is; GPUs are for the caller to add.
    pub(super) fn of(&self, entity: EntityId) -> Option<&PlaceView> {
        self.known.get(&entity).map(|known| &known.place)
    }

    /// UUIDs, or unambiguous beginnings of them, of the GPUs that a server's processes were given.
    pub(super) fn given(&self, entity: EntityId) -> &[String] {
        self.known.get(&entity).map_or(&[], |known| &known.given)
    }
}

/// The agent's own view of a process goes before the process's: in a container its group is called `/`.
fn place(proc: &Path, pids: &[u32], workers: &[WorkerUsage]) -> PlaceView {
    let seen = pids.iter().find_map(|pid| std::fs::read_to_string(proc.join(pid.to_string()).join("cgroup")).ok());
    let told = || workers.iter().map(|worker| &worker.peer.hello.cgroup).find(|cgroup| !cgroup.is_empty()).cloned();
    let Some(path) = seen.or_else(told).as_deref().and_then(group_path).map(|path| printable(path.as_bytes())) else {
        return PlaceView::default();
    };
    PlaceView { container: container(&path), pod: pod(&path), cgroup: Some(path), gpus: Vec::new() }
}

/// The path of the group in the text of `/proc/<pid>/cgroup`: in the unified hierarchy unless that is only its root, else the
/// longest of version 1's, which differ where a process was put into a group of some controllers only.
pub(crate) fn group_path(text: &str) -> Option<&str> {
    let lines = || {
        text.lines().filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let (_, path) = rest.split_once(':')?;
            path.starts_with('/').then_some((number, path))
        })
    };
    let unified = lines().find(|(number, path)| *number == "0" && *path != "/");
    unified.or_else(|| lines().max_by_key(|(_, path)| path.len())).map(|(_, path)| path)
}

/// `…/docker/<id>`, `…/cri-containerd-<id>.scope`, `…/crio-<id>.scope`, `…/libpod-<id>.scope`, `…/pod<uid>/<id>`; the
/// innermost one.
pub(crate) fn container(path: &str) -> Option<String> {
    path.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let id = part.rsplit(['-', ':']).next()?;
        (id.len() == CONTAINER_ID && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
    })
}

/// `…/pod<uid>/…` of the cgroupfs driver, `…-pod<uid with underscores>.slice/…` of systemd's; the innermost one.
pub(crate) fn pod(path: &str) -> Option<String> {
    path.rsplit('/').find_map(|part| {
        let part = part.split(':').next().unwrap_or(part);
        let part = part.strip_suffix(".slice").unwrap_or(part);
        let uid = part.rsplit('-').next().filter(|last| last.starts_with("pod")).unwrap_or(part).strip_prefix("pod")?;
        let uid = uid.replace('_', "-");
        let shape = [8, 4, 4, 4, 12];
        let fits = uid.split('-').map(str::len).eq(shape) && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        fits.then_some(uid)
    })
}

/// An index means another GPU in every container, so only UUIDs count.
fn given(workers: &[WorkerUsage]) -> Vec<String> {
    let devices = workers.iter().flat_map(|worker| &worker.peer.hello.devices);
    let mut given: Vec<String> =
        devices.filter(|device| device.starts_with("GPU-") || device.starts_with("MIG-")).cloned().collect();
    given.sort_unstable();
    given.dedup();
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe_socket::Peer;
    use perfwatch_wire::message::Hello;

    const ID: &str = "4fd3c3a85fdf0a1be7a31d2cc3fdbf05cc2f3f25bfd3fcd9dbcd19c1d8cb0a61";

    #[test]
    fn the_container_is_read_from_the_path_of_every_runtime() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods/burstable/pod1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
        ] {
            assert_eq!(container(&path).as_deref(), Some(ID), "{path}");
        }
        assert_eq!(container("/user.slice/user-1000.slice/session-2.scope"), None);
        assert_eq!(container("/"), None);
    }

    #[test]
    fn the_pod_is_read_from_the_path_of_either_driver() {
        const POD: &str = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed";
        let systemd = POD.replace('-', "_");
        for path in [
            format!("/kubepods/burstable/pod{POD}/{ID}"),
            format!("/kubepods/pod{POD}/{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{systemd}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{systemd}.slice/crio-{ID}.scope"),
            format!("/system.slice/containerd.service/kubepods-burstable-pod{systemd}.slice:cri-containerd:{ID}"),
        ] {
            assert_eq!(pod(&path).as_deref(), Some(POD), "{path}");
        }
        assert_eq!(pod(&format!("/docker/{ID}")), None);
        assert_eq!(pod("/user.slice/podman-1.scope"), None);
    }

    #[test]
    fn the_group_is_the_unified_one_or_the_deepest_of_version_1() {
        assert_eq!(group_path("4:memory:/m\n1:cpu:/\n0::/pod/app\n"), Some("/pod/app"));
        assert_eq!(group_path("4:memory:/process/x\n1:cpu:/\n0::/\n"), Some("/process/x"));
        assert_eq!(group_path("0::/\n"), Some("/"));
        assert_eq!((group_path(""), group_path("nonsense\n")), (None, None));
    }

    fn worker(hello: Hello) -> WorkerUsage {
        let hello = Hello { session: vec![1; 16], ..hello };
        WorkerUsage {
            peer: Arc::new(Peer::new(hello, None)),
            cpu_ns: None,
            run_delay_ns: None,
            cpus_allowed: String::new(),
            threads: 0,
            control_group: None,
        }
    }

    #[test]
    fn what_the_agent_sees_of_a_process_goes_before_what_the_process_says() {
        let proc = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(proc.path().join("7")).expect("writable");
        std::fs::write(proc.path().join("7/cgroup"), format!("0::/docker/{ID}\n")).expect("writable");
        let workers = [worker(Hello { cgroup: "0::/\n".into(), ..Hello::default() })];
        let seen = place(proc.path(), &[7], &workers);
        assert_eq!(seen.cgroup, Some(format!("/docker/{ID}")));
        assert_eq!(seen.container.as_deref(), Some(ID));
        let told = place(proc.path(), &[], &workers);
        assert_eq!((told.cgroup.as_deref(), told.container), (Some("/"), None));
        let hostile = [worker(Hello { cgroup: "0::/a\u{1b}[31m\n".into(), ..Hello::default() })];
        let path = place(proc.path(), &[], &hostile).cgroup.expect("a path");
        assert!(!path.contains('\u{1b}'), "{path}");
    }

    #[test]
    fn gpus_are_given_by_uuid_and_an_index_says_nothing() {
        let workers = [
            worker(Hello { devices: vec!["GPU-2".into(), "0".into(), "all".into()], ..Hello::default() }),
            worker(Hello { devices: vec!["MIG-1".into(), "GPU-2".into()], ..Hello::default() }),
        ];
        assert_eq!(given(&workers), ["GPU-2", "MIG-1"]);
    }

    #[test]
    fn a_place_is_looked_up_again_when_the_processes_change() {
        let mut places = Places::default();
        let entity = EntityId(3);
        let workers = [worker(Hello { cgroup: "0::/a\n".into(), ..Hello::default() })];
        places.refresh([(entity, &[][..], &workers[..])].into_iter());
        assert_eq!(places.of(entity).and_then(|place| place.cgroup.as_deref()), Some("/a"));
        let moved = [worker(Hello { cgroup: "0::/b\n".into(), ..Hello::default() })];
        places.refresh([(entity, &[][..], &moved[..])].into_iter());
        assert_eq!(places.of(entity).and_then(|place| place.cgroup.as_deref()), Some("/b"));
        places.refresh(std::iter::empty());
        assert_eq!(places.of(entity), None);
    }
}
