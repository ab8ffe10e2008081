//! OTLP/JSON as other programs write it.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::{Map, Value};

/// A request. What is empty may be left out, as the JSON form of Protobuf allows: Jaeger and the Collector do that
/// also where `opentelemetry-proto` insists.
pub fn request(text: &[u8]) -> serde_json::Result<ExportTraceServiceRequest> {
    let mut request: Value = serde_json::from_slice(text)?;
    fill(&mut request);
    serde_json::from_value(request)
}

fn fill(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(fill),
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                fill(value);
                match (name.as_str(), value) {
                    ("arrayValue" | "kvlistValue", Value::Object(list)) => {
                        empty_list(list, "values");
                    }
                    ("entityRefs", Value::Array(entities)) => {
                        entities.iter_mut().filter_map(Value::as_object_mut).for_each(fill_entity);
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn fill_entity(entity: &mut Map<String, Value>) {
    empty_list(entity, "idKeys");
    empty_list(entity, "descriptionKeys");
    for name in ["schemaUrl", "type"] {
        entity.entry(name).or_insert_with(|| "".into());
    }
}

fn empty_list(fields: &mut Map<String, Value>, name: &str) {
    fields.entry(name).or_insert_with(|| Vec::<Value>::new().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_may_be_left_out() {
        let text = br#"{"resourceSpans": [{"resource": {
            "attributes": [
                {"key": "none", "value": {"arrayValue": {}}},
                {"key": "deep", "value": {"arrayValue": {"values": [{"kvlistValue": {}}]}}}
            ],
            "entityRefs": [{"type": "service", "idKeys": ["service.name"]}, {}]
        }, "scopeSpans": [{"scope": {}}]}]}"#;
        let request = request(text).unwrap();
        let resource = request.resource_spans[0].resource.as_ref().unwrap();
        assert_eq!(resource.attributes.len(), 2);
        assert_eq!(resource.entity_refs[0].id_keys, ["service.name"]);
        assert_eq!(resource.entity_refs[1].r#type, "");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert!(request(b"[1").is_err());
        assert!(request(br#"{"resourceSpans": 7}"#).is_err());
    }
}
