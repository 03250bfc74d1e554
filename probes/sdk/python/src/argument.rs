//! What Python passes: read leniently, because a wrong argument must not end a request.

use std::borrow::Cow;
use std::convert::Infallible;

use pyo3::prelude::*;
use pyo3::types::PyString;

/// A text, or nothing for anything that is not `str`.
pub(crate) struct Text<'a>(pub(crate) Option<Cow<'a, str>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Text<'a> {
    type Error = Infallible;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Self(match object.extract() {
            Ok(text) => Some(Cow::Borrowed(text)),
            // Lone surrogates, or no text.
            Err(_) => object.cast::<PyString>().ok().map(|text| Cow::Owned(text.to_string_lossy().into_owned())),
        }))
    }
}

/// An integer from 0 up; a float is rounded down, and anything else, a negative number too, is nothing.
pub(crate) struct Count(pub(crate) Option<u64>);

impl<'py> FromPyObject<'_, 'py> for Count {
    type Error = Infallible;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Self(object.extract().ok().or_else(|| object.extract::<f64>().ok().and_then(whole))))
    }
}

/// A number; anything else is nothing.
pub(crate) struct Amount(pub(crate) Option<f64>);

impl<'py> FromPyObject<'_, 'py> for Amount {
    type Error = Infallible;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Self(object.extract().ok()))
    }
}

/// The whole number below; nothing for negative numbers and those that are none.
#[inline]
pub(crate) fn whole(number: f64) -> Option<u64> {
    (number >= 0.0 && number.is_finite()).then_some(number as u64)
}
