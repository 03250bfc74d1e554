//! Who this server is, as the agent hears it in the handshake.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;

use perfwatch_wire::limits::{MAX_ENTRIES, MAX_NAME, MAX_PIDS, MAX_TEXT, SESSION_BYTES};
use perfwatch_wire::message::{ConfigEntry, Hello};

use crate::core::Settings;

/// Looks up an environment variable.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The handshake of a new session.
pub(crate) fn hello(settings: &Settings, environment: Environment<'_>) -> Hello {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let (own, parent) = (std::process::id(), parent_pid(&stat).unwrap_or(0));
    let start_ticks = start_ticks(&stat).unwrap_or(0);
    let same_executable_parent = || {
        let mine = fs::read_link("/proc/self/exe").ok()?;
        let theirs = fs::read_link(format!("/proc/{parent}/exe")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{parent}/stat")).ok()?;
        (mine == theirs).then(|| Some(format!("{parent}:{}", self::start_ticks(&stat)?)))?
    };
    let instance = settings
        .instance
        .clone()
        .filter(|instance| !instance.is_empty())
        .or_else(|| text(environment("PERFWATCH_INSTANCE")))
        .or_else(|| instance_id(&text(environment("OTEL_RESOURCE_ATTRIBUTES"))?))
        .or_else(same_executable_parent)
        .unwrap_or_else(|| format!("{own}:{start_ticks}"));
    let pids = pid_chain(&status);
    Hello {
        protocol: perfwatch_wire::PROTOCOL,
        oldest_protocol: perfwatch_wire::OLDEST_PROTOCOL,
        sdk: concat!("perfwatch-sdk-rust/", env!("CARGO_PKG_VERSION")).into(),
        service: cut(if settings.service.is_empty() { "unnamed" } else { &settings.service }, MAX_NAME).to_owned(),
        instance: cut(&instance, MAX_NAME).to_owned(),
        session: session_id(),
        pids: if pids.is_empty() { vec![own] } else { pids },
        start_ticks,
        cgroup: cut(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default(), MAX_TEXT).to_owned(),
        devices: devices(environment),
        config: settings
            .config
            .iter()
            .filter(|(key, _)| !key.is_empty())
            .take(MAX_ENTRIES)
            .map(|(key, value)| ConfigEntry {
                key: cut(key, MAX_NAME).to_owned(),
                value: cut(value, MAX_TEXT).to_owned(),
            })
            .collect(),
        max_batch_size: settings.max_batch_size,
        executable: fs::read_link("/proc/self/exe")
            .map(|path| cut(&path.to_string_lossy(), MAX_TEXT).to_owned())
            .unwrap_or_default(),
    }
}

/// 16 bytes that no other process image has.
fn session_id() -> Vec<u8> {
    let mut bytes = vec![0; SESSION_BYTES];
    let random = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if random.is_err() {
        // A sandbox without /dev: pid and start of the session differ from every other's on this machine.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        bytes[..4].copy_from_slice(&std::process::id().to_le_bytes());
        bytes[4..12].copy_from_slice(&(now.tv_sec as u64 ^ (now.tv_nsec as u64) << 32).to_le_bytes());
    }
    bytes
}

fn text(value: Option<OsString>) -> Option<String> {
    value?.into_string().ok().filter(|text| !text.is_empty())
}

/// `service.instance.id` in `OTEL_RESOURCE_ATTRIBUTES` (`key=value,key=value`, values percent-encoded).
fn instance_id(attributes: &str) -> Option<String> {
    attributes
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.trim() == "service.instance.id")
        .map(|(_, value)| percent_decode(value.trim()))
        .filter(|value| !value.is_empty())
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'%' && tail.len() >= 2)
            .then(|| std::str::from_utf8(&tail[..2]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn devices(environment: Environment<'_>) -> Vec<String> {
    ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"]
        .into_iter()
        .find_map(|name| text(environment(name)))
        .map(|list| list.split(',').take(MAX_ENTRIES).map(|device| cut(device.trim(), MAX_TEXT).to_owned()).collect())
        .unwrap_or_default()
}

/// The process id in each PID namespace, outermost first.
fn pid_chain(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).take(MAX_PIDS).collect()
}

/// Field `number` of a stat line, counted from 1 as `proc(5)` does; the name in field 2 may hold spaces and brackets.
fn stat_field(stat: &str, number: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(number - 3)
}

fn start_ticks(stat: &str) -> Option<u64> {
    stat_field(stat, 22)?.parse().ok()
}

fn parent_pid(stat: &str) -> Option<u32> {
    stat_field(stat, 4)?.parse().ok()
}

/// The longest start of `text` within `limit` bytes.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            service: "demo".into(),
            instance: None,
            max_batch_size: 4,
            config: vec![("workers".into(), "2".into()), (String::new(), "dropped".into())],
            socket: None,
            on_status: None,
        }
    }

    #[test]
    fn a_handshake_keeps_the_protocols_rules() {
        let long = Settings { service: "é".repeat(200), ..settings() };
        for settings in
            [settings(), long, Settings { service: String::new(), instance: Some(String::new()), ..settings() }]
        {
            let hello = hello(&settings, &|_| None);
            assert_eq!(perfwatch_wire::validate::hello(&hello), Ok(()));
            assert_eq!(hello.pids.last(), Some(&std::process::id()));
            assert!(hello.start_ticks > 0);
        }
    }

    #[test]
    fn the_instance_comes_from_the_first_source_that_has_one() {
        let named = |name: &str| match name {
            "PERFWATCH_INSTANCE" => Some(OsString::from("here")),
            "OTEL_RESOURCE_ATTRIBUTES" => Some(OsString::from("a=b,service.instance.id=pod%2D1")),
            _ => None,
        };
        assert_eq!(hello(&settings(), &named).instance, "here");
        let otel = |name: &str| named(name).filter(|_| name != "PERFWATCH_INSTANCE");
        assert_eq!(hello(&settings(), &otel).instance, "pod-1");
        let own = Settings { instance: Some("mine".into()), ..settings() };
        assert_eq!(hello(&own, &named).instance, "mine");
        assert!(hello(&settings(), &|_| None).instance.contains(':'));
    }

    #[test]
    fn hostile_process_names_do_not_shift_the_stat_fields() {
        let stat = "7 (a) R 1) S 3 7 7 0 -1 4 0 0 0 0 1 2 0 0 20 0 1 0 4711 0 0";
        assert_eq!((parent_pid(stat), start_ticks(stat)), (Some(3), Some(4711)));
    }

    #[test]
    fn every_session_has_its_own_id() {
        assert_ne!(session_id(), session_id());
    }
}
