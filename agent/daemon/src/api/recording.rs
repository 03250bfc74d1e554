//! `/v1/recording`: a range of what the agent keeps, as a file for `perfwatch replay`.

use std::fs::File;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use perfwatch_store::Place;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::Api;
use super::answer::Problem;
use super::ticks::seconds;
use crate::recording::{Asked, Folder, RecordError, of_journal, of_memory};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// Whoever takes nothing of the file for so long is taken to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// One recording at a time: each is a copy beside the journal, and counts against nobody's cap.
static ONE: Semaphore = Semaphore::const_new(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    from: Option<String>,
    to: Option<String>,
    last: Option<String>,
}

impl Range {
    fn asked(&self) -> Result<Asked, Problem> {
        let bad = |message: &str| Problem::new(StatusCode::BAD_REQUEST, message);
        let ns = |name: &'static str, text: &Option<String>| -> Result<Option<u64>, Problem> {
            Ok(seconds(name, text.as_deref())?.map(|seconds| (seconds.max(0.0) * 1e9) as u64))
        };
        match (ns("from", &self.from)?, ns("to", &self.to)?, ns("last", &self.last)?) {
            (None, None, last) => Ok(Asked::Newest(last.unwrap_or(u64::MAX))),
            (_, _, Some(_)) => Err(bad("`last` goes with neither `from` nor `to`")),
            (from, to, None) => match (from.unwrap_or(0), to.unwrap_or(u64::MAX >> 1)) {
                (from, to) if from > to => Err(bad("`from` is later than `to`")),
                (from, to) => Ok(Asked::Between(from, to)),
            },
        }
    }
}

pub(crate) async fn recording(
    State(api): State<Api>,
    range: Result<Query<Range>, QueryRejection>,
) -> Result<impl IntoResponse, Problem> {
    let Query(range) = range.map_err(|refused| {
        let hint = "it takes from= and to= in seconds since 1970, or last= in seconds";
        Problem::new(StatusCode::BAD_REQUEST, refused.body_text()).hint(hint)
    })?;
    let asked = range.asked()?;
    let alone = ONE.try_acquire().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "another recording is being taken")
            .hint("ask again when that is done")
    })?;
    let file = tokio::task::spawn_blocking(move || make(&api, asked)).await;
    let file =
        file.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the recording could not be made"))??;
    let (send, pieces) = mpsc::channel(4);
    tokio::spawn(async move {
        let _alone = alone;
        read(file, &send).await;
    });
    Ok(([(CONTENT_TYPE, "application/vnd.sqlite3")], Body::from_stream(ReceiverStream::new(pieces))))
}

/// The file, which nobody else finds any more: it goes when it was read.
fn make(api: &Api, asked: Asked) -> Result<File, Problem> {
    let no_room = |error: std::io::Error| Problem::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string());
    let journal = match api.journal.status().place {
        Place::Disk(path) => Some(path),
        _ => None,
    };
    let beside = journal.clone().unwrap_or_else(|| std::env::temp_dir().join("perfwatch"));
    let folder = Folder::beside(&beside).map_err(no_room)?;
    let made = if let Some(journal) = journal {
        of_journal(&journal, &folder.file(), asked)
    } else {
        let (ticks, table) = api.history.held(asked);
        of_memory(&ticks, &table, &folder.file())
    };
    made.map_err(|error| problem(&error))?;
    File::open(folder.file()).map_err(no_room)
}

fn problem(error: &RecordError) -> Problem {
    match error {
        RecordError::Nothing(_) => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
        RecordError::Archive(_) | RecordError::Unwritable { .. } => {
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string())
                .hint("the agent writes it beside its journal first; make room there")
        }
    }
}

/// Sends the file piece by piece.
async fn read(file: File, send: &mpsc::Sender<std::io::Result<Bytes>>) {
    let mut file = tokio::fs::File::from_std(file);
    loop {
        let mut piece = BytesMut::with_capacity(PIECE);
        let piece = match file.read_buf(&mut piece).await {
            Ok(0) => return,
            Ok(_) => Ok(piece.freeze()),
            Err(error) => Err(error),
        };
        let failed = piece.is_err();
        // Whoever asked may be gone.
        if failed | send.send_timeout(piece, PATIENCE).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(from: Option<&str>, to: Option<&str>, last: Option<&str>) -> Option<Asked> {
        let [from, to, last] = [from, to, last].map(|text| text.map(str::to_owned));
        Range { from, to, last }.asked().ok()
    }

    #[test]
    fn a_recording_is_of_the_newest_or_between_two_times() {
        assert_eq!(asked(None, None, None), Some(Asked::Newest(u64::MAX)), "everything");
        assert_eq!(asked(None, None, Some("1.5")), Some(Asked::Newest(1_500_000_000)));
        assert_eq!(asked(Some("1"), Some("2"), None), Some(Asked::Between(1_000_000_000, 2_000_000_000)));
        assert_eq!(asked(Some("1"), None, None), Some(Asked::Between(1_000_000_000, u64::MAX >> 1)));
        assert_eq!(asked(Some("2"), Some("1"), None), None);
        assert_eq!(asked(Some("1"), None, Some("1")), None);
        assert_eq!(asked(None, None, Some("x")), None);
    }
}
