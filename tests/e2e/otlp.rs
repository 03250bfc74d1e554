//! What leaves over OTLP, received by a receiver of our own.

use std::time::Duration;

use perfwatch_export::receiver::Receiver;
use perfwatch_sdk::{Server, Stage};
use perfwatch_tests::{Agent, wait_for};

use crate::PERFWATCH;
