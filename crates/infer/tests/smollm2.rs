//! The real model, fetched once and then from the cache: what it must do whatever it says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking"
)]

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::OnceLock;

use og_infer::{
    ChatRequest, Completion, Delta, Engine, Error, FinishReason, GgufEngine, Message,
    ResponseFormat, Sampling, Tool, ToolChoice, fetch,
};
use serde_json::{Value, json};

fn engine() -> &'static GgufEngine {
    static ENGINE: OnceLock<GgufEngine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"),
            PathBuf::from,
        );
        fetch::open_smollm2(&cache.join("og"), &mut |_| {}).expect("the model can be had")
    })
}

fn ask(text: &str, max_tokens: u32) -> ChatRequest {
    let mut request = ChatRequest::new(fetch::SMOLLM2_ID, vec![Message::user(text)]);
    request.max_tokens = Some(max_tokens);
    request
}

/// Runs a request and checks what holds for every answer.
fn answer(request: &ChatRequest) -> Completion {
    let (mut text, mut calls, mut prefills) = (String::new(), Vec::new(), 0);
    let completion = engine()
        .chat(request, &mut |delta| {
            match delta {
                Delta::Text(piece) => {
                    assert!(!piece.is_empty());
                    text.push_str(piece);
                }
                Delta::ToolCall { index, call } => {
                    assert_eq!(usize::try_from(index).unwrap(), calls.len());
                    calls.push(call.clone());
                }
                Delta::Prefill { done, total } => {
                    assert!(done < total && text.is_empty());
                    prefills += 1;
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((&completion.text, &completion.tool_calls), (&text, &calls), "streamed = returned");
    assert!(prefills > 0);
    assert_eq!(engine().count_tokens(request).unwrap(), completion.usage.prompt_tokens);
    assert!(completion.usage.completion_tokens <= request.max_tokens.unwrap_or(u32::MAX));
    completion
}

#[test]
fn a_question_gets_the_same_sensible_answer_twice() {
    let request = ask("What is 2+2?", 40);
    let first = answer(&request);
    println!("{first:?}");
    assert!(first.text.contains('4'), "{}", first.text);
    assert_eq!(first.finish_reason, FinishReason::Stop);
    assert!(!first.text.contains("<|"), "no control token shows");
    assert_eq!(first, answer(&request));
}

#[test]
fn conversations_at_once_do_not_disturb_each_other() {
    let questions = ["Name three colours.", "What is 2+2?", "Say hello."];
    let alone: Vec<Completion> = questions.iter().map(|q| answer(&ask(q, 10))).collect();
    let together: Vec<Completion> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            questions.iter().map(|q| scope.spawn(move || answer(&ask(q, 10)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(alone, together);
    assert!(alone.iter().all(|completion| !completion.text.is_empty()));
}

#[test]
fn max_tokens_and_stop_sequences_end_an_answer() {
    let long = answer(&ask("Tell me a story about a dog.", 12));
    assert_eq!(long.finish_reason, FinishReason::Length);
    assert_eq!(long.usage.completion_tokens, 12);

    let mut request = ask("Tell me a story about a dog.", 12);
    let word = long.text.split_whitespace().nth(3).unwrap().to_owned();
    request.stop = vec![word.clone()];
    let cut = answer(&request);
    assert_eq!(cut.finish_reason, FinishReason::Stop);
    assert_eq!(cut.text, long.text.split(&word).next().unwrap());
    assert!(cut.usage.completion_tokens < 12);
}

#[test]
fn a_seed_reproduces_a_sampled_answer() {
    let mut request = ask("Write one sentence about the sea.", 10);
    let mut with_seed = |seed| {
        request.sampling = Sampling::Seeded { temperature: 1.2, top_p: 0.95, seed };
        answer(&request).text
    };
    let first = with_seed(1);
    assert_eq!(first, with_seed(1));
    assert!((2..5).any(|seed| with_seed(seed) != first));
}

#[test]
fn the_caller_can_stop_at_any_time() {
    let mut pieces = 0;
    let completion = engine()
        .chat(&ask("Tell me a story about a cat.", 200), &mut |delta| match delta {
            Delta::Text(_) => {
                pieces += 1;
                if pieces == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
    assert_eq!(completion.finish_reason, FinishReason::Cancelled);
    assert!(completion.usage.completion_tokens < 10);
    let before = engine().chat(&ask("Hello", 5), &mut |_| ControlFlow::Break(())).unwrap();
    assert_eq!(before.finish_reason, FinishReason::Cancelled);
    assert_eq!((before.text.as_str(), before.usage.completion_tokens), ("", 0));
}

#[test]
fn what_does_not_fit_the_context_or_is_unknown_is_refused_before_computing() {
    let mut never = |_: Delta<'_>| -> ControlFlow<()> { panic!("nothing may be computed") };
    let long = ask(&"word ".repeat(5000), 10);
    let error = engine().chat(&long, &mut never).unwrap_err();
    assert!(matches!(error, Error::ContextLength { limit: 4096, .. }), "{error}");
    let error = engine().chat(&ask("hi", 4096), &mut never).unwrap_err();
    assert!(matches!(error, Error::ContextLength { max_tokens: 4096, .. }), "{error}");
    let mut other = ask("hi", 1);
    other.model = "gpt-5".into();
    let error = engine().chat(&other, &mut never).unwrap_err();
    assert_eq!(error.to_string(), "unknown model `gpt-5`; served: smollm2-135m-instruct");
}

#[test]
fn an_answer_asked_for_in_a_shape_has_it() {
    let mut request = ask("Describe a person called Ada who is 36.", 70);
    request.response_format = ResponseFormat::JsonSchema(json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"}, "age": {"type": "integer"},
            "mood": {"enum": ["happy", "sad"]}, "friends": {"type": "array", "items": {"type": "string"}, "maxItems": 2}
        },
        "required": ["name", "age", "mood", "friends"], "additionalProperties": false
    }));
    let completion = answer(&request);
    println!("{}", completion.text);
    let value: Value = serde_json::from_str(&completion.text).unwrap();
    assert!(value["name"].is_string() && value["age"].is_i64(), "{value}");
    assert!(["happy", "sad"].contains(&value["mood"].as_str().unwrap()));
    assert_eq!(completion.finish_reason, FinishReason::Stop);

    // Even a tight limit ends in valid JSON.
    request.response_format = ResponseFormat::JsonObject;
    for limit in [2, 16] {
        request.max_tokens = Some(limit);
        let completion = answer(&request);
        let value: Value = serde_json::from_str(&completion.text)
            .unwrap_or_else(|error| panic!("{error}: {}", completion.text));
        assert!(value.is_object());
    }

    request.response_format = ResponseFormat::JsonSchema(json!({"type": "string", "pattern": "a"}));
    assert_eq!(engine().count_tokens(&request).unwrap_err().param(), Some("response_format"));
}

#[test]
fn a_function_that_must_be_called_is_called_with_fitting_arguments() {
    let tool = |name: &str, property: &str| Tool {
        name: name.into(),
        description: format!("looks up {property}"),
        parameters: json!({
            "type": "object", "properties": {property: {"type": "string"}}, "required": [property]
        }),
    };
    let mut request = ask("What is the weather in Rome?", 100);
    request.tools = vec![tool("get_weather", "city"), tool("get_time", "zone")];
    request.tool_choice = ToolChoice::Required;
    let completion = answer(&request);
    println!("{:?}", completion.tool_calls);
    assert_eq!(completion.finish_reason, FinishReason::ToolCalls);
    let [call] = completion.tool_calls.as_slice() else { panic!("one call: {completion:?}") };
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
    let property = if call.name == "get_weather" { "city" } else { "zone" };
    assert!(arguments[property].is_string(), "{call:?}");
    assert!(completion.text.is_empty() && call.id.starts_with("call_"));

    request.tool_choice = ToolChoice::Function("get_time".into());
    assert_eq!(answer(&request).tool_calls[0].name, "get_time");

    // Left to itself, such a model may or may not call; either way the answer is well formed.
    request.tool_choice = ToolChoice::Auto;
    request.max_tokens = Some(20);
    let free = answer(&request);
    println!("{free:?}");
    assert_eq!(free.tool_calls.is_empty(), free.finish_reason != FinishReason::ToolCalls);
    assert_ne!(free.text.is_empty(), free.tool_calls.is_empty());
}

#[test]
fn speed_is_printed() {
    let request = ask("Write a paragraph about mountains.", 48);
    let start = std::time::Instant::now();
    let mut first_text = None;
    let completion = engine()
        .chat(&request, &mut |delta| {
            if matches!(delta, Delta::Text(_)) && first_text.is_none() {
                first_text = Some(start.elapsed());
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    let prefill = first_text.unwrap();
    let decode = start.elapsed() - prefill;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory: Vec<&str> = status
        .lines()
        .filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"))
        .collect();
    println!(
        "{:?}: {} prompt tokens in {prefill:?}, then {:.1} tokens/s; {memory:?}",
        engine().identity(),
        completion.usage.prompt_tokens,
        f64::from(completion.usage.completion_tokens - 1) / decode.as_secs_f64()
    );
    assert!(completion.usage.completion_tokens > 20);
}
