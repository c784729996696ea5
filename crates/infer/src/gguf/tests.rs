use super::*;
use crate::{Message, Sampling, Tool};

#[test]
fn the_version_in_the_identity_is_the_one_locked() {
    let lock = include_str!("../../../../Cargo.lock");
    for name in ["candle-core", "candle-transformers"] {
        let entry = format!("name = \"{name}\"\nversion = \"{CANDLE_VERSION}\"\n");
        assert!(lock.contains(&entry), "{name} is not locked at {CANDLE_VERSION}");
    }
}

#[test]
fn requests_out_of_bounds_are_refused_with_the_field_at_fault() {
    let good = || ChatRequest::new("m", vec![Message::user("hi")]);
    assert!(check_bounds(&good()).is_ok());
    let tool = |name: &str| Tool {
        name: name.into(),
        description: String::new(),
        parameters: serde_json::Value::Null,
    };
    let cases: [(&str, ChatRequest); 9] = [
        ("messages", ChatRequest { messages: vec![], ..good() }),
        ("messages", ChatRequest { messages: vec![Message::system("only")], ..good() }),
        (
            "messages",
            ChatRequest { messages: vec![Message::user("x".repeat((1 << 20) + 1))], ..good() },
        ),
        ("messages", ChatRequest { messages: vec![Message::user("x"); 1025], ..good() }),
        ("max_tokens", ChatRequest { max_tokens: Some(0), ..good() }),
        ("stop", ChatRequest { stop: vec![String::new()], ..good() }),
        ("stop", ChatRequest { stop: vec!["x".into(); 17], ..good() }),
        ("tools", ChatRequest { tools: vec![tool("no spaces")], ..good() }),
        ("tools", ChatRequest { tools: vec![tool("t"); 129], ..good() }),
    ];
    for (param, request) in cases {
        let error = check_bounds(&request).expect_err(param);
        assert_eq!(error.param(), Some(param));
        assert!(error.is_callers_fault());
    }
    let mut missing = good();
    missing.tool_choice = ToolChoice::Function("f".into());
    missing.tools = vec![tool("g")];
    assert_eq!(call_grammar(&missing).unwrap_err().param(), Some("tool_choice"));
    missing.tool_choice = ToolChoice::Auto;
    assert!(call_grammar(&missing).is_ok_and(|(call, must)| call.is_some() && !must));
    assert!(Sampler::new(Sampling::Greedy).is_ok());
}

#[test]
fn a_file_that_is_not_as_promised_or_no_model_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut config = crate::fetch::smollm2_config(file.path().to_owned());
    assert!(matches!(GgufEngine::open(&config), Err(Error::WeightsHash { .. })));
    config.path = "/nonexistent".into();
    assert!(matches!(GgufEngine::open(&config), Err(Error::Io { .. })));
}

/// Foreign bytes: whatever a file holds, loading ends in an error, not a panic.
#[test]
fn mutated_headers_never_panic() {
    use candle_core::quantized::gguf_file;
    let mut metadata = tokenizer::tests::tiny_metadata();
    metadata.extend([
        ("general.architecture".to_owned(), Value::String("llama".into())),
        ("general.file_type".into(), Value::U32(3)),
        ("tokenizer.chat_template".into(), Value::String("{{ messages[0].content }}".into())),
        ("llama.context_length".into(), Value::U32(64)),
        ("llama.embedding_length".into(), Value::U32(64)),
        ("llama.block_count".into(), Value::U32(1)),
        ("llama.attention.head_count".into(), Value::U32(2)),
        ("llama.attention.head_count_kv".into(), Value::U32(1)),
        ("llama.rope.dimension_count".into(), Value::U32(32)),
        ("llama.attention.layer_norm_rms_epsilon".into(), Value::F32(1e-5)),
    ]);
    let mut sorted: Vec<_> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    sorted.sort_by_key(|(key, _)| *key);
    let mut file = Cursor::new(Vec::new());
    gguf_file::write(&mut file, &sorted, &[]).unwrap();
    let bytes = file.into_inner();
    let config = crate::fetch::smollm2_config("unused".into());
    let whole = GgufEngine::load(&config, &bytes, [0; 32]).unwrap_err();
    assert!(whole.to_string().contains("token_embd"), "only weights are missing: {whole}");

    let mut state = 1u64;
    let mut random = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(state >> 33).unwrap() % bound
    };
    for _ in 0..400 {
        let mut mutant = bytes.clone();
        for _ in 0..=random(3) {
            let at = random(mutant.len());
            mutant[at] = u8::try_from(random(256)).unwrap();
        }
        mutant.truncate(mutant.len() - random(2) * random(bytes.len()));
        assert!(GgufEngine::load(&config, &mutant, [0; 32]).is_err());
    }
}
