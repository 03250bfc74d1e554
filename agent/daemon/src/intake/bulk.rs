//! How much memory a message would take once it is decoded. Two octets can become a whole point or attribute, so that a small
//! message may be a large one in disguise; what is counted here is known before anything is allocated.

/// Smaller messages are decoded without a look: they cannot become more than some tens of MiB.
const SMALL: usize = 256 << 10;
/// Parts of a message in protobuf, texts included, each at most some 100 bytes once decoded. An honest message of 4 MiB has
/// fewer: a point with two attributes has 9 parts in 75 octets.
const MAX_PARTS: usize = 500_000;
/// Objects, and values of all kinds, in a message in JSON; an object is some 700 bytes once decoded.
const MAX_OBJECTS: usize = 50_000;
const MAX_VALUES: usize = 400_000;
/// Levels at which OTLP has parts: an attribute's list in an event of a span is the deepest.
const DEPTH: usize = 10;

/// What is told to a sender.
pub(super) const TOO_MANY: &str = "a message has more parts than fit: send fewer points or spans at a time";

/// Whether a message in protobuf has too many parts.
pub(super) fn is_too_much(message: &[u8]) -> bool {
    let mut left = MAX_PARTS;
    message.len() > SMALL && count(message, DEPTH, &mut left).is_none() && left == 0
}

/// Takes the parts in these bytes off what is left; `None` when nothing is left, or these are no fields. A text that happens
/// to look like fields is counted as if it were some, which an honest sender never has enough of.
fn count(mut bytes: &[u8], depth: usize, left: &mut usize) -> Option<()> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let skip = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (part, rest) = bytes.split_at_checked(skip)?;
        bytes = rest;
        if tag & 7 == 2 {
            *left = left.saturating_sub(1);
            if depth > 0 {
                let _ = count(part, depth - 1, left);
            }
            if *left == 0 {
                return None;
            }
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Whether a message in JSON has too many objects or values. What stands in texts is counted too.
pub(super) fn is_too_much_json(message: &[u8]) -> bool {
    let of = |wanted: &[u8]| message.iter().filter(|byte| wanted.contains(byte)).count();
    message.len() > SMALL && (of(b"{") > MAX_OBJECTS || of(b"[,") > MAX_VALUES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::metrics::v1::{
        Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric::Data, number_data_point,
    };
    use prost::Message as _;

    fn message(points: Vec<NumberDataPoint>) -> Vec<u8> {
        let data = Some(Data::Gauge(Gauge { data_points: points }));
        let metrics = vec![Metric { name: "level".to_owned(), data, ..Metric::default() }];
        let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
        let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
        ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
    }

    fn attribute(key: &str, value: String) -> KeyValue {
        let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    }

    #[test]
    fn an_honest_message_of_the_largest_size_passes() {
        let point = |number: u64| NumberDataPoint {
            attributes: vec![attribute("http.route", format!("/v1/{number}")), attribute("model", "llama".to_owned())],
            start_time_unix_nano: 1_700_000_000_000_000_000,
            time_unix_nano: 1_700_000_000_000_000_000 + number,
            value: Some(number_data_point::Value::AsInt(7)),
            ..NumberDataPoint::default()
        };
        let sent = message((0..50_000).map(point).collect());
        assert!(sent.len() > 3 << 20 && !is_too_much(&sent), "{}", sent.len());
    }

    #[test]
    fn a_message_that_would_become_many_times_as_large_is_told() {
        let empty = message(vec![NumberDataPoint::default(); 600_000]);
        assert!(empty.len() < 2 << 20 && is_too_much(&empty), "{}", empty.len());
        let attributes = vec![KeyValue::default(); 600_000];
        assert!(is_too_much(&message(vec![NumberDataPoint { attributes, ..NumberDataPoint::default() }])));
        let objects = format!("[{}]", "{\"\":0},".repeat(100_000));
        assert!(is_too_much_json(objects.as_bytes()));
        assert!(is_too_much_json("[0,".repeat(300_000).as_bytes()));
    }

    #[test]
    fn what_is_no_protobuf_is_for_the_decoder_to_tell() {
        assert!(!is_too_much(&vec![0xff; 1 << 20]));
        assert!(!is_too_much(&vec![b'x'; 1 << 20]));
        assert!(!is_too_much(b"\x0a\x00"));
    }
}
