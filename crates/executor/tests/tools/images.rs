//! GenerateImage: what each provider is asked, strictly, and what becomes of the pictures they give.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{MicroUsd, event::Detail};
use executor::tools::{
    Call, Context, Outcome, ToolError, Tools,
    image::{Ability, Images, Provider},
    web,
};
use serde_json::{Value, json, value::RawValue};

use crate::{recorded::Recorded, world::World};

/// One pixel.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn context(world: &World, provider: Provider) -> Context {
    let web = web::Client::new(Vec::new()).expect("a client");
    let images = Images::new(provider, Ability::Change, 0.04).expect("a client");
    Context::new(world.sandboxes.clone(), world.spec.clone(), "run_test", Vec::new(), web).with_images(Some(images))
}

async fn generate(world: &World, cx: &Context, input: Value) -> Result<Outcome, String> {
    let input = RawValue::from_string(input.to_string()).expect("JSON");
    let call = Call { name: "GenerateImage", input: &input, stop: &world.stop, show: &|_| {} };
    match Tools::new(true).with_images(Some(Ability::Change)).call(cx, call).await {
        Ok(outcome) => Ok(outcome),
        Err(ToolError::ForModel(text)) => Err(text),
        Err(err) => panic!("{err:?}"),
    }
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

#[tokio::test]
async fn a_picture_lands_in_the_workspace_and_can_be_changed() {
    let world = World::new().await;
    let answer = leak(json!({"created": 1, "data": [{"b64_json": PNG}], "usage": {"total_tokens": 9}}).to_string());
    let server = Recorded::start("200 OK", answer).await;
    let url = format!("{}/v1", server.base).parse().expect("a URL");
    let key = Some("openai-key".to_owned().into());
    let cx = context(&world, Provider::OpenAi { url, key, model: "gpt-image-1".into() });
    let path = "/workspace/art/fox.png";
    let made = generate(&world, &cx, json!({"prompt": "A fox", "file_path": path, "size": "1536x1024"})).await;
    let made = made.expect("is made");
    let asked = server.asked();
    assert_eq!(asked.line, "POST /v1/images/generations HTTP/1.1");
    assert_eq!(asked.header("authorization"), Some("Bearer openai-key"));
    let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
    assert_eq!(body, json!({"model": "gpt-image-1", "prompt": "A fox", "n": 1, "size": "1536x1024"}));
    assert_eq!(made.to_text(), format!("Made {path}: image/png, 1x1, 70 bytes."));
    let detail = |is_new| Detail::Image {
        path: path.into(),
        is_new,
        media_type: "image/png".into(),
        width: 1,
        height: 1,
        bytes: 70,
    };
    assert_eq!((made.detail, made.cost), (Some(detail(true)), MicroUsd(40_000)));
    let written = cx.sandbox().await.expect("opens").read_file(path, 0, 1000).await.expect("is there");
    assert_eq!(STANDARD.encode(&written.bytes), PNG);

    let changed = generate(&world, &cx, json!({"prompt": "Blue", "file_path": path, "source_path": path})).await;
    assert_eq!(changed.expect("is changed").detail, Some(detail(false)));
    let asked = server.asked();
    assert_eq!(asked.line, "POST /v1/images/edits HTTP/1.1");
    assert!(asked.header("content-type").is_some_and(|kind| kind.starts_with("multipart/form-data; boundary=")));
    let form = String::from_utf8_lossy(&asked.body).into_owned();
    for part in [
        "name=\"prompt\"\r\n\r\nBlue\r\n",
        "name=\"model\"\r\n\r\ngpt-image-1\r\n",
        "filename=\"source.png\"\r\nContent-Type: image/png\r\n",
    ] {
        assert!(form.contains(part), "{part:?} in {form}");
    }
    assert!(!form.contains("response_format") && !form.contains("name=\"size\""), "{form}");

    // Nothing is paid for that could not be written, and no file of the user's is lost.
    let before = server.count();
    world.bash("echo mine > /workspace/mine.png; mkdir /workspace/directory").await;
    for (input, told) in [
        (json!({"prompt": "x", "file_path": "/workspace/mine.png"}), "exists and was not read in this run"),
        (json!({"prompt": "x", "file_path": "/workspace/directory"}), "is a directory"),
        (json!({"prompt": "x", "file_path": "relative.png"}), "must be an absolute path"),
        (json!({"prompt": " ", "file_path": path}), "prompt must have"),
        (json!({"prompt": "x", "file_path": path, "size": "huge"}), "size must be"),
        (json!({"prompt": "x", "file_path": path, "source_path": "/workspace/mine.png"}), "is not a PNG, JPEG or WebP"),
        (json!({"prompt": "x", "file_path": path, "source_path": "/workspace/none.png"}), "does not exist"),
    ] {
        let said = generate(&world, &cx, input.clone()).await.expect_err("is refused");
        assert!(said.contains(told), "{input}: {said}");
    }
    assert_eq!(server.count(), before);
}

#[tokio::test]
async fn gemini_and_automatic1111_are_asked_and_read_as_they_document() {
    let world = World::new().await;
    let answer = json!({"candidates": [{"content": {"role": "model", "parts": [
        {"text": "Here it is."}, {"inlineData": {"mimeType": "image/png", "data": PNG}},
    ]}, "finishReason": "STOP"}], "usageMetadata": {"totalTokenCount": 1}});
    let gemini = Recorded::start("200 OK", leak(answer.to_string())).await;
    let url = format!("{}/v1beta/", gemini.base).parse().expect("a URL");
    let cx = context(
        &world,
        Provider::Gemini { url, key: "g-key".to_owned().into(), model: "gemini-2.5-flash-image".into() },
    );
    let path = "/workspace/a.png";
    generate(&world, &cx, json!({"prompt": "A fox", "file_path": path, "size": "1536x1024"})).await.expect("is made");
    let asked = gemini.asked();
    assert_eq!(asked.line, "POST /v1beta/models/gemini-2.5-flash-image:generateContent HTTP/1.1");
    assert_eq!(asked.header("x-goog-api-key"), Some("g-key"));
    let config = json!({"responseModalities": ["TEXT", "IMAGE"], "imageConfig": {"aspectRatio": "3:2"}});
    assert_eq!(
        serde_json::from_slice::<Value>(&asked.body).expect("JSON"),
        json!({"contents": [{"parts": [{"text": "A fox"}]}], "generationConfig": config})
    );
    let change = json!({"prompt": "Blue", "file_path": "/workspace/b.png", "source_path": path});
    generate(&world, &cx, change.clone()).await.expect("is changed");
    assert_eq!(
        serde_json::from_slice::<Value>(&gemini.asked().body).expect("JSON")["contents"][0]["parts"],
        json!([{"text": "Blue"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}])
    );

    let local =
        Recorded::start("200 OK", leak(json!({"images": [PNG], "parameters": {}, "info": "{}"}).to_string())).await;
    let cx = context(&world, Provider::Automatic1111 { url: local.base.parse().expect("a URL") });
    generate(&world, &cx, json!({"prompt": "A fox", "file_path": "/workspace/c.png"})).await.expect("is made");
    assert_eq!(local.asked().line, "POST /sdapi/v1/txt2img HTTP/1.1");
    assert_eq!(
        serde_json::from_slice::<Value>(&local.asked().body).expect("JSON"),
        json!({"prompt": "A fox", "width": 1024, "height": 1024, "batch_size": 1})
    );
    let change = json!({"prompt": "Blue", "file_path": "/workspace/d.png", "source_path": path});
    generate(&world, &cx, change).await.expect("is changed");
    assert_eq!(local.asked().line, "POST /sdapi/v1/img2img HTTP/1.1");
    assert_eq!(
        serde_json::from_slice::<Value>(&local.asked().body).expect("JSON"),
        json!({"prompt": "Blue", "width": 1, "height": 1, "batch_size": 1, "init_images": [PNG], "denoising_strength": 0.6})
    );
}

#[tokio::test]
async fn what_is_no_picture_is_not_written_and_no_key_is_told() {
    let world = World::new().await;
    let text = STANDARD.encode("canary-key, not a picture");
    for (status, body, told) in [
        ("200 OK", json!({"data": [{"b64_json": text}]}), "is not a picture"),
        ("200 OK", json!({"data": [{"b64_json": "!"}]}), "not valid base64"),
        ("200 OK", json!({"data": [{"url": "http://169.254.169.254/"}]}), "holds no picture"),
        (
            "400 Bad Request",
            json!({"error": {"message": "Your prompt was refused by the safety system."}}),
            "refused by the safety system",
        ),
        ("401 Unauthorized", json!({"error": {"message": "Incorrect key canary-key"}}), "must look at the key"),
        ("500 Internal Server Error", json!("canary-key"), "answered 500"),
    ] {
        let server = Recorded::start(status, leak(body.to_string())).await;
        let url = server.base.parse().expect("a URL");
        let key = Some("canary-key".to_owned().into());
        let cx = context(&world, Provider::OpenAi { url, key, model: "dall-e".into() });
        let said =
            generate(&world, &cx, json!({"prompt": "x", "file_path": "/workspace/x.png"})).await.expect_err("fails");
        assert!(said.contains(told) && !said.contains("canary"), "{status}: {said}");
    }
    assert_eq!(world.bash("ls /workspace").await, "(The command ended without output.)");
}

#[tokio::test]
async fn a_provider_that_cannot_change_pictures_is_not_asked_to() {
    let definition = |images| {
        let mut all = Tools::new(true).with_images(images).definitions();
        all.retain(|tool| tool.name == "GenerateImage");
        all.pop().map(|tool| tool.input_schema.get().contains("source_path"))
    };
    assert_eq!(definition(None), None);
    assert_eq!(definition(Some(Ability::Make)), Some(false));
    assert_eq!(definition(Some(Ability::Change)), Some(true));

    let world = World::new().await;
    let server = Recorded::start("200 OK", "{}").await;
    let provider = Provider::OpenAi { url: server.base.parse().expect("a URL"), key: None, model: "dall-e-3".into() };
    let web = web::Client::new(Vec::new()).expect("a client");
    let images = Images::new(provider, Ability::Make, 0.0).expect("a client");
    let cx = Context::new(world.sandboxes.clone(), world.spec.clone(), "run_test", Vec::new(), web);
    let change = json!({"prompt": "x", "file_path": "/workspace/x.png", "source_path": "/workspace/y.png"});
    let said = generate(&world, &cx.with_images(Some(images)), change).await.expect_err("is refused");
    assert_eq!(said, "The provider of this server makes pictures and cannot change one. No picture was made.");
    assert_eq!(server.count(), 0);
}
