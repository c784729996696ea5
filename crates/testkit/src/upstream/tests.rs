use super::*;

async fn post(mock: &MockUpstream, path: &str, body: Value) -> (u16, String) {
    let response = reqwest::Client::new()
        .post(format!("{}/{path}", mock.url()))
        .json(&body)
        .send()
        .await
        .unwrap();
    let status = response.status().as_u16();
    (status, response.text().await.unwrap())
}

async fn chat(mock: &MockUpstream, extra: Value) -> Value {
    let mut body =
        json!({"model": MODEL, "messages": [{"role": "user", "content": "one two three"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let (status, text) = post(mock, "chat/completions", body).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn events(text: &str) -> Vec<Value> {
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.last(), Some(&"[DONE]"), "{text}");
    data[..data.len() - 1].iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[tokio::test]
async fn answers_depend_on_the_request_alone() {
    let mock = MockUpstream::start().await.unwrap();
    let first = chat(&mock, json!({})).await;
    assert_eq!(first["choices"][0]["message"]["content"], "You said: one two three");
    assert_eq!(first["usage"]["prompt_tokens"], 3);
    assert_eq!(first["usage"]["completion_tokens"], 5);
    assert_eq!(first, chat(&mock, json!({})).await);
    assert_eq!(mock.count(), 2);
    let cut = chat(&mock, json!({"max_tokens": 2})).await;
    assert_eq!(cut["choices"][0]["message"]["content"], "You said:");
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    let stopped = chat(&mock, json!({"stop": ["two"]})).await;
    assert_eq!(stopped["choices"][0]["message"]["content"], "You said: one ");
    mock.forget();
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn a_stream_has_openais_form() {
    let mock = MockUpstream::start().await.unwrap();
    let body = json!({
        "model": MODEL, "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi  there"}]}],
    });
    let (status, text) = post(&mock, "chat/completions", body.clone()).await;
    assert_eq!(status, 200);
    let events = events(&text);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let joined: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(joined, "You said: hi  there");
    let (last, rest) = events.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 6);
    assert!(rest.iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
    assert_eq!(rest.last().unwrap()["choices"][0]["finish_reason"], "stop");

    let mut plain = body;
    plain.as_object_mut().unwrap().remove("stream_options");
    let (_, text) = post(&mock, "chat/completions", plain).await;
    assert!(!text.contains("usage"));
}

#[tokio::test]
async fn tools_structured_output_and_completions() {
    let mock = MockUpstream::start().await.unwrap();
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}]);
    let called = chat(&mock, json!({"tools": tools})).await;
    let call = &called["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(call["function"]["arguments"], r#"{"city":"text","days":1}"#);
    assert_eq!(called["choices"][0]["finish_reason"], "tool_calls");
    let refused = chat(&mock, json!({"tools": tools, "tool_choice": "none"})).await;
    assert!(refused["choices"][0]["message"]["content"].is_string());
    let streamed = json!({"model": MODEL, "stream": true, "tools": tools,
        "messages": [{"role": "user", "content": "x"}]});
    let (_, text) = post(&mock, "chat/completions", streamed).await;
    let arguments: String = events(&text)
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    assert_eq!(arguments, r#"{"city":"text","days":1}"#);

    let schema = json!({"type": "object", "properties": {"n": {"type": "number"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let shaped = chat(&mock, json!({"response_format": format})).await;
    assert_eq!(shaped["choices"][0]["message"]["content"], r#"{"n":1.5}"#);

    let (status, text) =
        post(&mock, "completions", json!({"model": MODEL, "prompt": "Say ok"})).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &value["choices"][0]["text"]), (200, &json!("You wrote: Say ok")));
}

#[tokio::test]
async fn failures_come_by_model_and_by_header() {
    let mock = MockUpstream::start().await.unwrap();
    let ask = |model: &str, stream: bool| {
        json!({
            "model": model, "stream": stream, "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "a b c d e f"}],
        })
    };
    for (model, status) in
        [("mock-500", 500), ("mock-503", 503), ("mock-429", 429), ("mock-401", 401)]
    {
        let (got, text) = post(&mock, "chat/completions", ask(model, false)).await;
        assert_eq!(got, status);
        assert!(serde_json::from_str::<Value>(&text).unwrap()["error"]["message"].is_string());
    }
    for stream in [false, true] {
        let (_, text) = post(&mock, "chat/completions", ask("mock-no-usage", stream)).await;
        assert!(!text.contains("total_tokens") && text.contains("You"), "{text}");
        let cut = reqwest::Client::new()
            .post(format!("{}/chat/completions", mock.url()))
            .json(&ask("mock-cut", stream))
            .send()
            .await
            .unwrap();
        assert_eq!(cut.status(), 200);
        assert!(cut.text().await.is_err(), "the body must break");
    }
    let (_, text) = post(&mock, "chat/completions", ask("mock-malformed", true)).await;
    assert!(
        text.lines()
            .filter_map(|l| l.strip_prefix("data: "))
            .any(|d| d != "[DONE]" && serde_json::from_str::<Value>(d).is_err())
    );
    let (_, text) = post(&mock, "chat/completions", ask("mock-no-done", true)).await;
    assert!(!text.contains("[DONE]") && !text.contains("finish_reason\":\"stop"));
    let by_header = reqwest::Client::new()
        .post(format!("{}/chat/completions", mock.url()))
        .header("x-mock-failure", "429")
        .json(&ask(MODEL, false))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (by_header.status().as_u16(), by_header.headers()["retry-after"].to_str().unwrap()),
        (429, "1")
    );
    let never = reqwest::Client::new()
        .post(format!("{}/chat/completions", mock.url()))
        .json(&ask("mock-timeout", false))
        .timeout(Duration::from_millis(300))
        .send()
        .await;
    assert!(never.unwrap_err().is_timeout());
}

#[tokio::test]
async fn bad_requests_get_openais_envelope() {
    let mock = MockUpstream::start_with_key("k").await.unwrap();
    let client = reqwest::Client::new();
    let url = format!("{}/chat/completions", mock.url());
    let send = |body: &'static str, key: &'static str| {
        let request = client.post(&url).bearer_auth(key).body(body);
        async move { request.send().await.unwrap() }
    };
    for (body, key, status) in [
        ("{", "k", 400),
        ("{}", "k", 400),
        (r#"{"model":"mock-chat"}"#, "k", 400),
        (r#"{"model":"mock-chat","messages":[]}"#, "k", 400),
        (r#"{"model":"mock-chat","messages":[{"role":"alien","content":"x"}]}"#, "k", 400),
        (r#"{"model":"other","messages":[{"role":"user","content":"x"}]}"#, "k", 404),
        (r#"{"model":"mock-chat","messages":[{"role":"user","content":"x"}]}"#, "wrong", 401),
        (r#"{"model":"mock-chat","messages":[{"role":"user","content":"x"}]}"#, "k", 200),
    ] {
        let response = send(body, key).await;
        assert_eq!(response.status().as_u16(), status, "{body}");
        let value: Value = response.json().await.unwrap();
        assert_eq!(value["error"]["message"].is_string(), status != 200);
    }
    let list = client.get(format!("{}/models", mock.url())).bearer_auth("k").send().await.unwrap();
    let list: Value = list.json().await.unwrap();
    assert_eq!(list["data"].as_array().unwrap().len(), MockUpstream::models().len());
}
