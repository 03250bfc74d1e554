//! What the agent before this one knew and what still holds, out of its journal.

use std::path::Path;

use perfwatch_diagnose::{REMEMBERED_NS, Recollection};
use perfwatch_model::Stamp;
use perfwatch_store::{Archive, ArchiveError};

use crate::assemble::scene::{SceneReader, WHOLE_EVERY};

/// What to go on with in this boot of the machine, at this moment. Of a journal that cannot be read nothing is known, and
/// the agent starts.
pub(crate) fn recollection(journal: &Path, boot: &str, now: Stamp) -> Recollection {
    read(journal, boot, now).unwrap_or_else(|error| {
        tracing::warn!(%error, "what the agent before this one knew of GPUs is lost");
        Recollection::default()
    })
}

/// The last scene has it. What was left of a second when an agent ended has none, and there may be several of those.
fn read(journal: &Path, boot: &str, now: Stamp) -> Result<Recollection, ArchiveError> {
    let archive = Archive::open(journal)?;
    let Some(span) = archive.span()? else { return Ok(Recollection::default()) };
    let mut scenes = SceneReader::default();
    let mut shown_ns = 0;
    let mut next = archive.before(span.last_seq, 2 * WHOLE_EVERY)?;
    while let Some(tick) = archive.unnamed(next)? {
        if !tick.scene().is_empty() {
            scenes.read(tick.scene());
            shown_ns = tick.end().mono_ns;
        }
        next = tick.seq().saturating_add(1);
    }
    // Without a name for it no boot can be told from another. And what happened so long ago is not told as if it were new.
    let is_recent = now.mono_ns.checked_sub(shown_ns).is_some_and(|age_ns| age_ns <= REMEMBERED_NS);
    let holds = is_recent && !boot.is_empty() && scenes.boot() == Some(boot);
    Ok(if holds { scenes.known() } else { Recollection::default() })
}
