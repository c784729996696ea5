//! Requests, deltas and completions, in the terms of the chat-completions wire format.

use serde_json::Value;

/// A chat request after parsing and defaulting; nothing in it is optional by accident.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// Name of the model.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Most tokens to generate; `None` means what the context leaves.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer; they are not part of it. Empty ones are refused.
    pub stop: Vec<String>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Functions the model may call.
    pub tools: Vec<Tool>,
    /// Whether it may, must, or must not call one.
    pub tool_choice: ToolChoice,
    /// The shape the answer must have.
    pub response_format: ResponseFormat,
}

impl ChatRequest {
    /// A greedy request with no limits but the context's.
    #[must_use]
    pub fn new(model: impl Into<String>, messages: Vec<Message>) -> Self {
        Self {
            model: model.into(),
            messages,
            max_tokens: None,
            stop: Vec::new(),
            sampling: Sampling::Greedy,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            response_format: ResponseFormat::Text,
        }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; may be empty when `tool_calls` is not.
    pub content: String,
    /// Calls an assistant message made.
    pub tool_calls: Vec<ToolCall>,
    /// The call a tool message answers.
    pub tool_call_id: Option<String>,
}

impl Message {
    fn plain(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None }
    }

    /// A user's message.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self::plain(Role::User, content)
    }

    /// A system message.
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self::plain(Role::System, content)
    }

    /// An earlier answer of the model.
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::plain(Role::Assistant, content)
    }
}

/// Who speaks in a message. The wire's `developer` is a [`Role::System`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator of the conversation.
    System,
    /// The person (or program) asking.
    User,
    /// The model.
    Assistant,
    /// A function's result.
    Tool,
}

impl Role {
    /// The wire's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampling {
    /// Always the most likely token (temperature 0).
    Greedy,
    /// Drawn from the distribution, reproducibly.
    Seeded {
        /// Above 0, at most 2: higher is flatter.
        temperature: f32,
        /// Above 0, at most 1: only the most likely tokens whose probabilities sum to this are eligible.
        top_p: f32,
        /// The only source of randomness.
        seed: u64,
    },
}

/// A function the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name: letters, digits, `_`, `-`, `.`; at most 64.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments object; `null` for "any object".
    pub parameters: Value,
}

/// A call the model made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Unique within the conversation.
    pub id: String,
    /// The function.
    pub name: String,
    /// JSON text of the arguments object.
    pub arguments: String,
}

/// Whether the model may, must, or must not call a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It must not.
    None,
    /// It must call one of them.
    Required,
    /// It must call this one.
    Function(String),
}

/// The shape the answer must have.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ResponseFormat {
    /// Free text.
    #[default]
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON that satisfies this schema (the bare schema, not the wire's wrapper around it).
    JsonSchema(Value),
}

/// What an engine reports while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delta<'a> {
    /// The request waits for a free conversation; sent about once a second.
    Waiting,
    /// The prompt is being read.
    Prefill {
        /// Prompt tokens read.
        done: u32,
        /// Prompt tokens in all.
        total: u32,
    },
    /// More of the answer; whole UTF-8, never empty, and never part of a stop sequence.
    Text(&'a str),
    /// A function call, whole.
    ToolCall {
        /// Its place in [`Completion::tool_calls`].
        index: u32,
        /// The call.
        call: &'a ToolCall,
    },
}

/// A finished answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// All text that was streamed, joined.
    pub text: String,
    /// All calls that were streamed.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it took.
    pub usage: Usage,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model was done, or a stop sequence was met.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The answer is one or more function calls.
    ToolCalls,
    /// The caller's callback said so.
    Cancelled,
}

impl FinishReason {
    /// The wire's word for it (`cancelled` is ours; the wire has none).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Tokens read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Tokens generated, the end marker not counted.
    pub completion_tokens: u32,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub const fn total_tokens(self) -> u32 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}
