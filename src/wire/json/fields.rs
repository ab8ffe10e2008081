//! The fields of OTLP's messages by their names in JSON (proto/opentelemetry/proto/{trace,resource,common}/v1).

/// A message's fields.
#[derive(Debug)]
pub(super) struct Fields(&'static [Field]);

/// One field.
#[derive(Debug)]
pub(super) struct Field {
    /// In lowerCamelCase, the only form that OTLP knows.
    pub(super) name: &'static str,
    /// In protobuf.
    pub(super) number: u8,
    pub(super) kind: Kind,
    pub(super) occurs: Occurs,
}

/// How often a field is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occurs {
    /// Once; its default is not written.
    Once,
    /// One of several: that it is there says something, even with its default.
    Chosen,
    /// In a list.
    Listed,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// Bytes in base64.
    Base64,
    /// Bytes in hexadecimal digits: ids, where OTLP differs from protobuf's JSON.
    Hex,
    Bool,
    Int64,
    Int32,
    Uint32,
    /// By its number: OTLP knows no names.
    Enum,
    Fixed64,
    Fixed32,
    Double,
    Message(&'static Fields),
}

use Kind::{
    Base64, Bool, Double, Enum, Fixed32, Fixed64, Hex, Int32, Int64, Message, Text, Uint32,
};

impl Fields {
    /// The field of this name.
    pub(super) fn of(&self, name: &str) -> Option<&'static Field> {
        self.0.iter().find(|field| field.name == name)
    }

    /// The field of this number.
    pub(super) fn numbered(&self, number: u32) -> Option<&'static Field> {
        self.0.iter().find(|field| u32::from(field.number) == number)
    }
}

impl Kind {
    /// What stands in JSON, for people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Text => "a text",
            Base64 => "a text in base64",
            Hex => "hexadecimal digits, two a byte",
            Bool => "true or false",
            Int64 => "a whole number from -2^63 to 2^63-1",
            Int32 => "a whole number from -2^31 to 2^31-1",
            Uint32 | Fixed32 => "a whole number from 0 to 2^32-1",
            Enum => "the number of an enum's value",
            Fixed64 => "a whole number from 0 to 2^64-1",
            Double => "a number, \"NaN\", \"Infinity\" or \"-Infinity\"",
            Message(_) => "an object",
        }
    }
}

const fn once(name: &'static str, number: u8, kind: Kind) -> Field {
    Field { name, number, kind, occurs: Occurs::Once }
}

const fn chosen(name: &'static str, number: u8, kind: Kind) -> Field {
    Field { name, number, kind, occurs: Occurs::Chosen }
}

const fn listed(name: &'static str, number: u8, kind: Kind) -> Field {
    Field { name, number, kind, occurs: Occurs::Listed }
}

/// ExportTraceServiceRequest
pub(super) static REQUEST: Fields = Fields(&[listed("resourceSpans", 1, Message(&RESOURCE_SPANS))]);

static RESOURCE_SPANS: Fields = Fields(&[
    once("resource", 1, Message(&RESOURCE)),
    listed("scopeSpans", 2, Message(&SCOPE_SPANS)),
    once("schemaUrl", 3, Text),
]);

static RESOURCE: Fields = Fields(&[
    listed("attributes", 1, Message(&KEY_VALUE)),
    once("droppedAttributesCount", 2, Uint32),
    listed("entityRefs", 3, Message(&ENTITY_REF)),
]);

static ENTITY_REF: Fields = Fields(&[
    once("schemaUrl", 1, Text),
    once("type", 2, Text),
    listed("idKeys", 3, Text),
    listed("descriptionKeys", 4, Text),
]);

static SCOPE_SPANS: Fields = Fields(&[
    once("scope", 1, Message(&SCOPE)),
    listed("spans", 2, Message(&SPAN)),
    once("schemaUrl", 3, Text),
]);

static SCOPE: Fields = Fields(&[
    once("name", 1, Text),
    once("version", 2, Text),
    listed("attributes", 3, Message(&KEY_VALUE)),
    once("droppedAttributesCount", 4, Uint32),
]);

static SPAN: Fields = Fields(&[
    once("traceId", 1, Hex),
    once("spanId", 2, Hex),
    once("traceState", 3, Text),
    once("parentSpanId", 4, Hex),
    once("name", 5, Text),
    once("kind", 6, Enum),
    once("startTimeUnixNano", 7, Fixed64),
    once("endTimeUnixNano", 8, Fixed64),
    listed("attributes", 9, Message(&KEY_VALUE)),
    once("droppedAttributesCount", 10, Uint32),
    listed("events", 11, Message(&EVENT)),
    once("droppedEventsCount", 12, Uint32),
    listed("links", 13, Message(&LINK)),
    once("droppedLinksCount", 14, Uint32),
    once("status", 15, Message(&STATUS)),
    once("flags", 16, Fixed32),
]);

static EVENT: Fields = Fields(&[
    once("timeUnixNano", 1, Fixed64),
    once("name", 2, Text),
    listed("attributes", 3, Message(&KEY_VALUE)),
    once("droppedAttributesCount", 4, Uint32),
]);

static LINK: Fields = Fields(&[
    once("traceId", 1, Hex),
    once("spanId", 2, Hex),
    once("traceState", 3, Text),
    listed("attributes", 4, Message(&KEY_VALUE)),
    once("droppedAttributesCount", 5, Uint32),
    once("flags", 6, Fixed32),
]);

static STATUS: Fields = Fields(&[once("message", 2, Text), once("code", 3, Enum)]);

static KEY_VALUE: Fields = Fields(&[
    once("key", 1, Text),
    once("value", 2, Message(&ANY_VALUE)),
    once("keyStrindex", 3, Int32),
]);

static ANY_VALUE: Fields = Fields(&[
    chosen("stringValue", 1, Text),
    chosen("boolValue", 2, Bool),
    chosen("intValue", 3, Int64),
    chosen("doubleValue", 4, Double),
    chosen("arrayValue", 5, Message(&ARRAY_VALUE)),
    chosen("kvlistValue", 6, Message(&KEY_VALUE_LIST)),
    chosen("bytesValue", 7, Base64),
    chosen("stringValueStrindex", 8, Int32),
]);

static ARRAY_VALUE: Fields = Fields(&[listed("values", 1, Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Fields = Fields(&[listed("values", 1, Message(&KEY_VALUE))]);
