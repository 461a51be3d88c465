//! Reading a JSON object field by field.
//!
//! The code that serde derives for a struct is made anew for each, for objects and for lists, and
//! came to an eighth of the whole app. This reads any object into one map first and takes the
//! fields from there: strictly all the same, so that an unknown, a missing and a wrong field are
//! errors that name it.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// An object whose fields are taken one after the other.
pub(super) struct Object(Map<String, Value>);

impl Object {
    /// Reads any object.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self)
    }

    /// Takes a field; one that may be absent is then null.
    pub(super) fn take<T: DeserializeOwned>(
        &mut self,
        field: &str,
    ) -> Result<T, serde_json::Error> {
        let value = self.0.remove(field).unwrap_or(Value::Null);
        T::deserialize(value).map_err(|error| named(field, &error))
    }

    /// Refuses what is left over.
    pub(super) fn end(self) -> Result<(), serde_json::Error> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(field) => Err(named(field, &"nobody knows this field")),
        }
    }
}

fn named(field: &str, problem: &dyn std::fmt::Display) -> serde_json::Error {
    serde_json::Error::custom(format!("{field}: {problem}"))
}

/// Lets a struct be read from an object with just these fields.
macro_rules! read_from_object {
    ($($name:ident { $($field:ident),* $(,)? })*) => {
        $(
            impl<'de> serde::Deserialize<'de> for $name {
                fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
                where
                    D: serde::Deserializer<'de>,
                {
                    let mut object = crate::abi::object::Object::read(deserializer)?;
                    let mut read = || {
                        Ok(Self { $($field: object.take(stringify!($field))?,)* })
                    };
                    let read = read();
                    read.and_then(|read| object.end().map(|()| read))
                        .map_err(|error: serde_json::Error| {
                            <D::Error as serde::de::Error>::custom(error)
                        })
                }
            }
        )*
    };
}

pub(super) use read_from_object;

#[cfg(test)]
mod tests {
    use crate::abi::{CodeInput, LogInput, SignatureInput};
    use serde_json::json;

    #[test]
    fn each_wrong_field_is_named() {
        let read = |value| serde_json::from_value::<CodeInput>(value).map_err(|e| e.to_string());
        let sound = json!({ "system": "s", "code": "c" });
        let code = read(sound.clone()).expect("sound");
        assert_eq!(serde_json::to_value(&code).expect("JSON"), sound);
        for (value, field) in [
            (json!({ "system": "s" }), "code"),
            (json!({ "system": "s", "code": 1 }), "code"),
            (json!({ "system": "s", "code": null }), "code"),
            (json!({ "system": "s", "code": "c", "more": 1 }), "more"),
        ] {
            let error = read(value).expect_err("a wrong field");
            assert!(error.starts_with(field), "{error}");
        }
        for none in [json!(["s", "c"]), json!("s"), json!(null)] {
            assert!(read(none).is_err());
        }
    }

    #[test]
    fn an_object_in_an_object_is_read_as_strictly() {
        let text = r#"{"author_key":"0x1","seq":1,"prev":"0x0","kind":"GRANTED","body":"",
            "at":2,"salt":"0x1","signature":{"r":"0x1","s":"0x2"}}"#;
        let entry: LogInput = serde_json::from_str(text).expect("sound");
        let expected = SignatureInput {
            r: "0x1".into(),
            s: "0x2".into(),
        };
        assert_eq!((entry.seq, entry.signature), (1, expected));
        let broken = text.replace("\"s\":", "\"t\":");
        let error = serde_json::from_str::<LogInput>(&broken).expect_err("no s");
        assert!(error.to_string().contains("signature: s"), "{error}");
    }
}
