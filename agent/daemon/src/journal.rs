//! Where the journal lies, and opening it.

use std::path::PathBuf;

use perfwatch_model::Clock;
use perfwatch_store::{Journal, JournalOptions, Place};

use crate::agent::Role;
use crate::config::{Config, Environment, JournalMode};
use crate::recording::Folder;

/// Its name in the state folder.
const FILE: &str = "journal.db";

/// Whether this role and configuration ask for one on a disk.
pub(crate) fn is_wanted(role: &Role, config: &Config) -> bool {
    let settings = &config.settings;
    // A demo leaves no history behind, unless it is told where.
    let guest = matches!(role, Role::Guest(_)) && settings.journal_path.is_none();
    let off = settings.journal_mode == JournalMode::Memory && *role != Role::Recorder;
    !(off || matches!(role, Role::InProcess) || guest)
}

/// The journal that this role and configuration ask for. An agent inside a command keeps nothing: the command's end is the
/// end of its history.
pub(crate) fn open(role: &Role, config: &Config, clock: &dyn Clock) -> Journal {
    let now_wall_ns = clock.now().wall_ns;
    let settings = &config.settings;
    if !is_wanted(role, config) {
        return Journal::in_memory(now_wall_ns);
    }
    let Some(path) = settings.journal_path.clone().or_else(|| default_path(config.environment())) else {
        tracing::warn!("journal in memory only: neither STATE_DIRECTORY nor XDG_STATE_HOME nor HOME is set");
        return Journal::in_memory(now_wall_ns);
    };
    let journal = Journal::open(JournalOptions {
        // Shown to those who stand in another folder.
        path: std::path::absolute(&path).unwrap_or(path),
        cap_bytes: settings.journal_cap.0,
        keep_s: settings.journal_keep.0,
        keep_minutes_s: settings.journal_keep_minutes.0,
        // Without it a kernel counter that began anew at a higher value passes for the old.
        boot: boot(),
        now_wall_ns,
    });
    if let Place::Disk(path) = journal.reader().status().place {
        Folder::remove_left_beside(&path);
    }
    journal
}

/// What tells one boot of the machine from another; empty where nobody does.
pub(crate) fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// `$STATE_DIRECTORY` (systemd; the first of several), else `$XDG_STATE_HOME/perfwatch`, else `~/.local/state/perfwatch`.
fn default_path(environment: &Environment) -> Option<PathBuf> {
    let systemd = environment
        .path("STATE_DIRECTORY")
        .and_then(|list| list.to_str().and_then(|list| list.split(':').next()).map(PathBuf::from));
    let user = || {
        environment
            .path("XDG_STATE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| environment.path("HOME").map(|home| home.join(".local/state")))
            .map(|base| base.join("perfwatch"))
    };
    systemd.or_else(user).map(|folder| folder.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_decides_before_the_user_does() {
        let path = |set: &[(&str, &str)]| default_path(&set.iter().copied().collect());
        let home = ("HOME", "/home/me");
        let expected = |path: &str| Some(PathBuf::from(path));
        assert_eq!(path(&[]), None);
        assert_eq!(path(&[home]), expected("/home/me/.local/state/perfwatch/journal.db"));
        assert_eq!(path(&[home, ("XDG_STATE_HOME", "/state")]), expected("/state/perfwatch/journal.db"));
        assert_eq!(path(&[home, ("XDG_STATE_HOME", "here")]), path(&[home]), "a relative one is to be ignored");
        let both = [home, ("STATE_DIRECTORY", "/var/lib/perfwatch:/var/lib/other")];
        assert_eq!(path(&both), expected("/var/lib/perfwatch/journal.db"));
    }
}
