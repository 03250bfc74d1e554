//! OTLP as JSON. OTLP wants its fields in lowerCamelCase; opentelemetry-cpp, and with it Triton, sends JSON unless told
//! otherwise and names them as the `.proto` files do. Both are understood.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Decodes a message. `serde_json` bounds how deeply it is nested.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    T::deserialize(with_camel_case(serde_json::from_slice(bytes)?))
}

/// Renames the fields of all objects. Attributes keep their names: in OTLP these are values.
fn with_camel_case(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let renamed = fields.into_iter().map(|(name, value)| (camel_case(name), with_camel_case(value)));
            Value::Object(renamed.collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(with_camel_case).collect()),
        plain => plain,
    }
}

fn camel_case(name: String) -> String {
    if !name.contains('_') {
        return name;
    }
    let mut camel = String::with_capacity(name.len());
    let mut is_start = false;
    for c in name.chars() {
        match c {
            '_' => is_start = true,
            c if is_start => {
                camel.push(c.to_ascii_uppercase());
                is_start = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};

    /// As opentelemetry-cpp 1.9 writes it: names of the `.proto` files, ids in hexadecimal, 64-bit integers as numbers.
    const CPP: &str = r#"{"resource_spans":[{
        "resource":{"attributes":[{"key":"service.name","value":{"string_value":"triton-inference-server"}}]},
        "scope_spans":[{"scope":{"name":"triton-server"},"spans":[{
            "trace_id":"0102030405060708090a0b0c0d0e0f10","span_id":"0102030405060708","name":"InferRequest","kind":2,
            "start_time_unix_nano":1700000000000000000,"end_time_unix_nano":"1700000000003130000",
            "attributes":[{"key":"triton.request_id","value":{"int_value":7}}],
            "events":[{"name":"HTTP_RECV_START","time_unix_nano":1700000000000000001}],"status":{}}]}]}]}"#;

    #[test]
    fn traces_are_read_as_opentelemetry_cpp_names_their_fields() {
        let sent: ExportTraceServiceRequest = decode(CPP.as_bytes()).expect("understood");
        let scope = &sent.resource_spans[0].scope_spans[0];
        let span = &scope.spans[0];
        assert_eq!((span.trace_id.len(), span.span_id.as_slice()), (16, &[1, 2, 3, 4, 5, 6, 7, 8][..]));
        assert_eq!((span.kind, span.end_time_unix_nano - span.start_time_unix_nano), (2, 3_130_000));
        assert_eq!(span.events[0].time_unix_nano, 1_700_000_000_000_000_001);
        assert_eq!(span.attributes[0].key, "triton.request_id", "an attribute's name is no field");
    }

    #[test]
    fn metrics_are_read_as_otlp_writes_them() {
        let text = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
            {"name":"jobs","unit":"{job}","sum":{"aggregationTemporality":2,"isMonotonic":true,
                "dataPoints":[{"timeUnixNano":"5","asInt":"7","attributes":[{"key":"a_b","value":{"stringValue":"c"}}]}]}},
            {"name":"wait","unit":"ms","histogram":{"aggregationTemporality":1,
                "dataPoints":[{"count":"3","sum":1.5,"bucketCounts":["1","2"],"explicitBounds":[0.5]}]}}]}]}]}"#;
        let sent: ExportMetricsServiceRequest = decode(text.as_bytes()).expect("understood");
        let metrics = &sent.resource_metrics[0].scope_metrics[0].metrics;
        let Some(Data::Sum(sum)) = &metrics[0].data else { panic!("{metrics:?}") };
        assert!(sum.is_monotonic);
        assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(7)));
        let Some(Data::Histogram(histogram)) = &metrics[1].data else { panic!("{metrics:?}") };
        assert_eq!((histogram.data_points[0].count, &histogram.data_points[0].bucket_counts[..]), (3, &[1, 2][..]));
    }

    #[test]
    fn what_is_no_json_says_where() {
        let error = decode::<ExportTraceServiceRequest>(b"{\"resourceSpans\":[}").expect_err("broken").to_string();
        assert!(error.contains("column 19"), "{error}");
        assert!(decode::<ExportTraceServiceRequest>("[".repeat(100_000).as_bytes()).is_err(), "too deep");
    }
}
