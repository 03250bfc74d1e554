//! Reasons that name a call, each made once: a driver that refuses a call refuses it each second.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use nvml_wrapper::error::NvmlError;

/// Calls times errors are some hundreds. What is beyond is made anew each time.
const MOST: usize = 1024;

type Key = (&'static str, Discriminant<NvmlError>, u32);

thread_local! {
    /// All calls are made by one thread.
    static SAID: RefCell<HashMap<Key, &'static str>> = RefCell::default();
}

/// What is said of an error of a call: `make` is asked the first time, and what it says is kept for good. `None` where too much is
/// kept already, or where the error itself says something else each time.
pub(super) fn once(error: &NvmlError, call: &'static str, make: impl FnOnce() -> String) -> Option<&'static str> {
    let code = match error {
        NvmlError::UnexpectedVariant(code) => *code,
        NvmlError::IncorrectBits(_) | NvmlError::StringTooLong { .. } | NvmlError::LibloadingError(_) => return None,
        _ => 0,
    };
    SAID.with_borrow_mut(|said| {
        let room = said.len() < MOST;
        match said.get(&(call, discriminant(error), code)) {
            Some(text) => Some(*text),
            None if room => {
                let text: &'static str = Box::leak(make().into_boxed_str());
                said.insert((call, discriminant(error), code), text);
                Some(text)
            }
            None => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_and_error_has_its_own_words_and_they_are_made_once() {
        let said = |code, call| once(&NvmlError::UnexpectedVariant(code), call, || format!("{call} says {code}"));
        let first = said(1, "a");
        assert_eq!(first, Some("a says 1"));
        assert_eq!(once(&NvmlError::UnexpectedVariant(1), "a", || unreachable!()), first);
        assert_eq!((said(2, "a"), said(1, "b")), (Some("a says 2"), Some("b says 1")));
        assert_eq!(once(&NvmlError::NoPermission, "a", || "no".to_owned()), Some("no"));
    }

    #[test]
    fn errors_without_end_are_not_kept_without_end() {
        let kept = (0..10_000).filter(|code| once(&NvmlError::UnexpectedVariant(*code), "c", String::new).is_some());
        assert!(kept.count() <= MOST);
    }
}
