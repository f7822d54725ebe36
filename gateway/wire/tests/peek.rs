//! The peek beside serde_json on arbitrary bodies, and splices of what it found.

use bifrost_wire::{Part, Peek, PeekError, Splice, SyntaxReason, peek};
use proptest::prelude::*;
use serde_json::Value;

/// Names that the peek knows, names that resemble them, and others.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "model",
            "stream",
            "store",
            "user",
            "safety_identifier",
            "metadata",
            "user_id",
            "prompt_cache_key",
            "previous_response_id",
            "fallbacks",
            "stream_options",
            "include_usage",
            "Model",
            "mode",
            "models",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

fn json(depth: u32) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z\"\\\\\n\u{1}é漢😀]{0,80}".prop_map(Value::from),
    ];
    leaf.prop_recursive(depth, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// A request body: well-formed members most of the time, so that not every body is refused.
fn body() -> impl Strategy<Value = Value> {
    let member = prop_oneof![
        4 => ("model|user|safety_identifier|prompt_cache_key|previous_response_id", any::<String>().prop_map(Value::from)),
        2 => ("stream|store", any::<bool>().prop_map(Value::from)),
        1 => (Just("stream_options".to_owned()), prop::option::of(prop::option::of(any::<bool>())).prop_map(|usage| match usage {
            None => serde_json::json!({"x": 1}),
            Some(usage) => serde_json::json!({"include_usage": usage}),
        })),
        1 => (Just("metadata".to_owned()), any::<String>().prop_map(|user| serde_json::json!({"user_id": user, "a": [1]}))),
        4 => (name(), json(3)),
    ];
    prop::collection::vec(member, 0..10).prop_map(|members| members.into_iter().collect())
}

/// Compact or spread over lines.
fn written(value: &Value, pretty: bool) -> String {
    if pretty { format!(" {value:#}\n") } else { value.to_string() }
}

/// Refused for what it says, though it is JSON.
fn is_refused_json(error: PeekError) -> bool {
    !matches!(
        error,
        PeekError::Syntax { .. }
            | PeekError::Empty
            | PeekError::ByteOrderMark
            | PeekError::InvalidUtf8 { .. }
            | PeekError::TrailingText { .. }
    )
}

/// The peek and serde_json agree on whether these bytes are JSON, where the peek looks to their end.
fn assert_same_verdict(bytes: &[u8]) -> Result<(), TestCaseError> {
    let parsed: Result<Value, _> = serde_json::from_slice(bytes);
    match (peek(bytes), parsed) {
        (Ok(_), Ok(value)) => prop_assert!(value.is_object()),
        // Numbers beyond a double's range are JSON, but no `Value`.
        (Ok(_), Err(error)) => prop_assert!(error.to_string().starts_with("number out of range"), "{error}"),
        (Err(error), Ok(_)) => prop_assert!(is_refused_json(error), "{error}"),
        (Err(_), Err(_)) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_is_accepted_and_its_members_found(value in body(), pretty: bool) {
        let text = written(&value, pretty);
        let peeked = match peek(text.as_bytes()) {
            Ok(peeked) => peeked,
            Err(error) => {
                prop_assert!(is_refused_json(error), "{error}");
                return Ok(());
            }
        };
        prop_assert_eq!(peeked.opening.empty, value.as_object().is_some_and(serde_json::Map::is_empty));
        prop_assert_eq!(text[..peeked.opening.after].trim(), "{");
        prop_assert_eq!(peeked.is_stream(), value["stream"] == true);
        for (member, expected) in [
            (&peeked.model, &value["model"]),
            (&peeked.user, &value["user"]),
            (&peeked.safety_identifier, &value["safety_identifier"]),
            (&peeked.prompt_cache_key, &value["prompt_cache_key"]),
            (&peeked.previous_response_id, &value["previous_response_id"]),
            (&peeked.metadata_user_id, &value["metadata"]["user_id"]),
        ] {
            prop_assert_eq!(member.as_ref().map(|member| member.value.as_ref()), expected.as_str());
            if let Some(member) = member {
                let sliced: Value = serde_json::from_str(&text[member.span.value.clone()]).unwrap();
                prop_assert_eq!(&sliced, expected);
            }
        }
    }

    #[test]
    fn broken_json_is_broken_for_both(value in body(), place: prop::sample::Index, byte in prop::option::of(any::<u8>())) {
        let mut bytes = value.to_string().into_bytes();
        let place = place.index(bytes.len());
        match byte {
            Some(byte) => bytes[place] = byte,
            None => bytes.truncate(place),
        }
        assert_same_verdict(&bytes)?;
    }

    #[test]
    fn json_punctuation_in_any_order_gets_one_verdict(text in r#"[\[\]{},:"\\ua0-9.eE+tfn-]{0,24}|\{("a":[-+0-9.eE]{0,6},?){0,2}\}|\{"a":"(\\[a-z"u]|\\ud[89c]00|[a-z]){0,6}"\}"#) {
        assert_same_verdict(text.as_bytes())?;
    }

    #[test]
    fn a_spliced_body_differs_in_nothing_else(value in body(), pretty: bool, model: String) {
        let text = written(&value, pretty);
        let Ok(peeked) = peek(text.as_bytes()) else { return Ok(()) };
        let mut splice = Splice::new(text.as_bytes());
        let mut expected: Value = serde_json::from_str(&text).unwrap();
        if splice.rename_model(&peeked, &model) {
            expected["model"] = model.into();
        }
        if splice.request_usage(&peeked) {
            if !expected["stream_options"].is_object() {
                expected["stream_options"] = serde_json::json!({});
            }
            expected["stream_options"]["include_usage"] = true.into();
        }
        for member in [&peeked.user, &peeked.previous_response_id].into_iter().flatten() {
            splice.remove(&member.span);
            let removed = if Some(&member.span) == peeked.user.as_ref().map(|user| &user.span) { "user" } else { "previous_response_id" };
            expected.as_object_mut().unwrap().remove(removed);
        }
        let result: Value = serde_json::from_slice(&splice.to_vec()).unwrap();
        prop_assert_eq!(result, expected);
        prop_assert!(!splice.parts().contains(&Part::New(b"")));
        prop_assert_eq!(peek(text.as_bytes()).map(Peek::into_owned), Ok(peeked));
    }
}

#[test]
fn the_deepest_accepted_nesting_is_serdes() {
    for depth in 100..140 {
        let text = format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let accepted = serde_json::from_str::<Value>(&text).is_ok();
        assert_eq!(peek(text.as_bytes()).is_ok(), accepted, "{depth}");
        if !accepted {
            assert!(matches!(peek(text.as_bytes()), Err(PeekError::Syntax { reason: SyntaxReason::TooDeep, .. })));
        }
    }
}
