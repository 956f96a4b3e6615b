//! serde_json is the oracle: both must accept the same texts, save unpaired surrogates.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// The value at the start of a text that holds nothing else.
fn scan(text: &str) -> Faulty<&str> {
    let mut scan = Scanner::new(text, 0, &Limits::default());
    scan.blanks();
    let value = scan.value(1)?;
    match scan.blanks() {
        None => Ok(value),
        Some(_) => Err(scan.unexpected("nothing more")),
    }
}

/// What serde_json, and the search for surrogates in it, say about a text.
fn oracle(text: &str) -> Option<&str> {
    let value: &RawValue = serde_json::from_str(text).ok()?;
    modelog_engine::event::json::check_surrogates(value.get()).ok()?;
    Some(value.get())
}

fn agrees(text: &str) {
    let (ours, theirs) = (scan(text), oracle(text));
    match (&ours, theirs) {
        (Ok(ours), Some(theirs)) => assert_eq!(*ours, theirs),
        (Err(_), None) => {}
        _ => panic!("{text:?}: {ours:?}, but serde_json says {theirs:?}"),
    }
}

#[test]
fn texts_are_judged_as_serde_json_does() {
    for text in [
        "",
        " ",
        "0",
        "-0",
        "-",
        "01",
        "-01",
        "1.",
        ".5",
        "1.5",
        "1e5",
        "1E+5",
        "1e-5",
        "1e",
        "1e+",
        "1.e5",
        "+1",
        "0x1",
        "1 2",
        "NaN",
        "Infinity",
        "-Infinity",
        "true",
        "tru",
        "truex",
        "false",
        "null",
        "nul",
        "\"\"",
        "\"a",
        "\"\\\"",
        "\"\\\\\"",
        "\"\\/\\b\\f\\n\\r\\t\"",
        "\"\\v\"",
        "\"\\u0041\"",
        "\"\\u004\"",
        "\"\\u00g0\"",
        "\"\\u+041\"",
        "\"\u{7f}\"",
        "\"\u{1f}\"",
        "\"tab\t\"",
        "\"line\n\"",
        "\"é\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ud83dx\"",
        "\"\\\\ud83d\"",
        "\"\\ud83d\\ud83d\\ude00\"",
        "{}",
        "{ }",
        "{\"a\":1}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{1:1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,\"a\":2}",
        "[]",
        "[ ]",
        "[1,2]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{\"a\":1]",
        "[",
        "{",
        "]",
        "}",
        "[[]]",
        "[[],{}]",
        "{\"a\":{\"b\":[{}]}}",
        "[{\"a\":[1,{\"b\":null}]},[[2]]]",
        "[1]]",
        "\u{feff}1",
        "\u{a0}1",
        "12345678901234567890123456789",
        "1e999",
        "\"0123456\\\"78\"",
        "\"01234567\"",
        "\"0123456\u{0}\"",
    ] {
        agrees(text);
    }
}

#[test]
fn nesting_is_allowed_up_to_the_limit() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        // The event around the value is the first level.
        assert!(scan(&nested(127)).is_ok());
        let fault = scan(&nested(128)).expect_err("too deep");
        assert_eq!((fault.code, fault.at), (Code::TooDeep, 127 * open.len()));
        let deep = Limits {
            depth: usize::MAX,
            ..Limits::default()
        };
        let text = nested(Limits::DEPTH_MAX);
        assert!(Scanner::new(&text, 0, &deep).value(0).is_ok());
        assert!(Scanner::new(&text, 0, &deep).value(1).is_err());
        // Brackets of both kinds are told apart at every level.
        let mixed = format!(
            "{}{}1{}{}",
            "[".repeat(70),
            "{\"a\":[".repeat(20),
            "]}".repeat(20),
            "]".repeat(70)
        );
        assert!(scan(&mixed).is_ok());
        assert!(scan(&mixed.replacen("]}]", "]]]", 1)).is_err());
    }
}

const NOT_FINITE: &str =
    "numbers that are not finite are written as the strings \"NaN\", \"Infinity\", \"-Infinity\"";

#[test]
fn faults_stand_where_the_text_goes_wrong() {
    for (text, at, message) in [
        ("{\"a\" 1}", 5, "`:` is expected, not '1'"),
        ("[1, 2", 5, "`,` or `]` is expected, but the text ends"),
        ("{\"a\":1 é", 7, "`,` or `}` is expected, not 'é'"),
        ("[\"abc", 1, "a string has no end"),
        (
            "[\"ab\nc\"]",
            4,
            "a string holds the control character U+000A; escape it",
        ),
        ("[NaN]", 1, NOT_FINITE),
        ("[-Infinity]", 2, NOT_FINITE),
        ("007", 0, "a number has a leading 0"),
    ] {
        let fault = scan(text).expect_err("not JSON");
        assert_eq!(
            (fault.at, fault.message.as_str(), fault.code),
            (at, message, Code::BadJson),
            "{text}"
        );
    }
}

#[test]
fn rough_ends_are_found_in_broken_elements() {
    for (text, end) in [
        ("{\"a\":nope},2", Some(10)),
        ("{\"a\":\"},\\\"\"},2", Some(12)),
        ("nope, 2", Some(4)),
        ("nope]", Some(4)),
        ("[1,{]},2", Some(6)),
        ("{\"a\":\"", None),
        ("{\"a\":\"\\", None),
        ("{", None),
        ("", None),
    ] {
        assert_eq!(rough_end(text.as_bytes(), 0), end, "{text}");
    }
}

/// Texts that are JSON, or nearly.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| serde_json::json!(value).to_string()),
        any::<String>().prop_map(|text| serde_json::json!(text).to_string()),
        r#""(\\u[0-9a-fD][0-9a-f]{3}|\\[nt"\\]|[a-z0-9 ]{1,9}|é){0,9}""#,
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| format!("[{}]", items.join(" , "))),
            proptest::collection::vec(("[a-z]{0,3}", inner), 0..5).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| format!("\"{name}\":\t{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn well_formed_texts_are_judged_as_serde_json_does(text in json()) {
        agrees(&text);
    }

    #[test]
    fn damaged_texts_are_judged_as_serde_json_does(text in json(), at in any::<prop::sample::Index>(), with in r#"[\[\]{}:,"\\ u0-9aefnl.+-]{0,2}"#, cut in 0..3_usize) {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let start = at.index(places.len());
        let end = (start + cut).min(places.len() - 1);
        agrees(&format!("{}{with}{}", &text[..places[start]], &text[places[end]..]));
    }

    #[test]
    fn texts_of_its_letters_are_judged_as_serde_json_does(text in r#"[\[\]{}:,"\\ u0-9aefnl.eE+-]{0,12}"#) {
        agrees(&text);
    }

    #[test]
    fn numbers_have_the_value_the_standard_library_gives_them(text in r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?") {
        let mut scan = Scanner::new(&text, 0, &Limits::default());
        let number = scan.number().expect("a number");
        prop_assert_eq!(number.raw, &text);
        let expected: f64 = text.parse().expect("a number");
        prop_assert_eq!(number.to_float().to_bits(), expected.to_bits());
        prop_assert_eq!(number.to_int(), text.parse().ok());
    }

    #[test]
    fn strings_unescape_as_serde_json_does(text in any::<String>(), escape in any::<bool>()) {
        let mut json = serde_json::json!(text).to_string();
        if escape {
            let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            json = format!("\"{units}\"");
        }
        let string = Scanner::new(&json, 0, &Limits::default()).string("a string").expect("a string");
        let mut out = String::new();
        string.unescape_into(&mut out);
        prop_assert_eq!(out, text);
    }
}
