"""The API of `bertkit serve`: what `bertkit predict` says, or one sentence that says what was wrong."""

import asyncio
import io
import json
import socket
import threading
import time

import httpx
import pytest
import transformers
from toy_encoder import PIECES
from toy_heads import write_head, write_heads
from toy_server import ask, served

import bertkit
from bertkit.errors import ConfigError
from bertkit.workflows.predict import predict
from bertkit.workflows.serve import server as serving
from bertkit.workflows.serve.addresses import is_loopback, url_of
from bertkit.workflows.serve.asked import Asked, Limits
from bertkit.workflows.serve.masks import _filled
from bertkit.workflows.serve.server import open_served, serve

TEXTS = ["the cat sat", "a mat, on it", "who?", "cafe 日本", "sitting cats on mats " * 30, "where was it", "a"]


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    folder = write_heads(tmp_path_factory.mktemp("heads"))
    write_head(folder / "masks", "MaskedLM")
    return folder


@pytest.fixture(scope="module")
def clients(heads):
    """One server a head, opened when a test first asks for it."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        known = {}

        def of(name):
            if name not in known:
                known[name] = stack.enter_context(served(open_served(str(heads / name))))
            return known[name]

        yield of


def predicted(folder, sentences):
    out = io.StringIO()
    predict(folder, output=out, sentences=sentences, with_probabilities=folder.name != "number")
    return [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("head", ["classes", "number", "sets"])
def test_answers_are_those_of_predict_whatever_else_is_in_the_batch(clients, heads, head):
    rows = predicted(heads / head, TEXTS)
    together = ask(clients(head), TEXTS).json()["outputs"]
    alone = [ask(clients(head), text).json()["outputs"] for text in TEXTS]
    for row, one, another in zip(rows, together, alone, strict=True):
        assert one["prediction"] == another["prediction"] == pytest.approx(row["prediction"], abs=2e-5)
        for name in {"probability", "probabilities"} & set(one):
            assert one[name] == pytest.approx(row[name], abs=2e-6)
            assert another[name] == pytest.approx(row[name], abs=2e-6)
    assert [each.get("is_cut", False) for each in together] == [len(text) > 100 for text in TEXTS]


def test_tags_answers_and_choices_are_those_of_predict(clients, heads):
    for head, sentences, inputs in (
        ("tags", ["the cat  sat on mats"], "the cat  sat on mats"),
        ("answers", ["who sat", "the cat sat"], {"question": "who sat", "context": "the cat sat"}),
        ("choices", ["who", "the cat", "a mat"], {"context": "who", "choices": ["the cat", "a mat"]}),
    ):
        (row,) = predicted(heads / head, sentences)
        answer = ask(clients(head), inputs).json()["outputs"]
        assert answer["prediction"] == row["prediction"]
        assert answer["probability"] == pytest.approx(row["probability"], abs=2e-6)
        assert {name: answer.get(name) for name in ("start", "end", "choice")} == {
            name: row.get(name) for name in ("start", "end", "choice")
        }
        assert len(answer["probabilities"]) == len(row["probabilities"])


def test_a_pair_may_be_called_as_transformers_calls_it(clients, heads):
    (row,) = predicted(heads / "classes", ["the cat"])
    first = ask(clients("classes"), {"text": "the cat"}).json()["outputs"]
    second = ask(clients("classes"), {"text": "the cat", "text_pair": "who sat"}).json()["outputs"]
    assert first["probability"] == pytest.approx(row["probability"], abs=2e-6)
    assert second["probabilities"] != first["probabilities"]


def test_entities_stand_where_they_stand_in_the_text(clients):
    text = "日本  the cat 😀 sat"
    answer = ask(clients("tags"), text).json()["outputs"]
    assert answer["tokens"] == text.split()
    assert answer["entities"]
    for entity in answer["entities"]:
        assert text[entity["start"] : entity["end"]] == entity["text"]
    tokens = ask(clients("tags"), {"tokens": text.split()}).json()["outputs"]
    assert tokens["prediction"] == answer["prediction"]
    joined = " ".join(text.split())
    assert all(joined[each["start"] : each["end"]] == each["text"] for each in tokens["entities"])


def test_masks_are_filled_as_transformers_pipeline_fills_them(clients, heads):
    texts = ["the [MASK] sat on the mat", "who sat [MASK]", "[MASK]" + " the cat" * 12]
    fill = transformers.pipeline("fill-mask", model=str(heads / "masks"), top_k=4)
    answers = ask(clients("masks"), texts, parameters={"top_k": 4}).json()["outputs"]
    for text, theirs, answer in zip(texts, fill(texts), answers, strict=True):
        (mask,) = answer["masks"]
        assert text[mask["start"] : mask["end"]] == "[MASK]"
        assert [each["word"] for each in mask["words"]] == [each["token_str"] for each in theirs]
        assert [each["probability"] for each in mask["words"]] == pytest.approx([t["score"] for t in theirs], abs=1e-5)
        assert answer["text"] == text.replace("[MASK]", theirs[0]["token_str"])


def test_every_mask_of_a_text_has_its_own_words_and_special_tokens_are_letters(clients):
    answer = ask(clients("masks"), "[MASK] cat [MASK] [SEP] on").json()["outputs"]
    assert [mask["start"] for mask in answer["masks"]] == [0, 11]
    assert answer["text"].count("[MASK]") == 0
    assert all(each["word"] in PIECES for mask in answer["masks"] for each in mask["words"])


@pytest.mark.parametrize(
    ("head", "body", "sentence"),
    [
        ("classes", "", "is not valid JSON"),
        ("classes", "[" * 100_000, "is not valid JSON"),
        ("classes", '{"inputs": "é"}'.encode("latin-1"), "is not UTF-8 (byte 12 is 0xe9): encode the JSON as UTF-8"),
        ("classes", '{"inputs": 1' + "0" * 5000 + "}", "is not valid JSON"),
        ("classes", "[]", 'must be an object with "inputs"'),
        ("classes", '{"input": "a"}', 'must be an object with "inputs"'),
        ("classes", '{"inputs": "a", "paramters": {}}', "did you mean 'parameters'?"),
        ("classes", '{"inputs": "a", "parameters": []}', "parameters must be an object"),
        ("classes", '{"inputs": "a", "parameters": {"top_k": 1}}', "unknown field 'top_k'"),
        ("classes", '{"inputs": []}', "inputs is empty"),
        ("classes", '{"inputs": null}', "inputs must be a string or an object"),
        ("classes", '{"inputs": ["a", 3]}', "inputs[1] must be a string or an object"),
        ("classes", '{"inputs": [["a", "b"]]}', "inputs[0] must be"),
        ("classes", '{"inputs": {"txt": "a"}}', "did you mean 'text'?"),
        ("classes", '{"inputs": {"text_pair": "a"}}', "inputs.text is missing"),
        ("classes", '{"inputs": "  "}', "inputs.text is empty"),
        ("classes", '{"inputs": "a\\u0000b"}', "inputs.text"),
        ("classes", '{"inputs": "\\ud800"}', "half of a surrogate pair"),
        ("classes", '{"inputs": "a", "\\ud800": 1}', "unknown field '\\ud800'"),
        ("classes", '{"inputs": {"\\ud800": "a"}}', "unknown field '\\ud800'"),
        ("classes", '{"inputs": "a", "parameters": {"\\ud800": 1}}', "unknown field '\\ud800'"),
        ("masks", '{"inputs": "[MASK]", "parameters": {"\\ud800": 1}}', "unknown field '\\ud800'"),
        ("tags", '{"inputs": {"text": "a", "tokens": ["a"]}}', "either text or tokens"),
        ("tags", '{"inputs": {"tokens": []}}', "inputs.tokens must be a list of words"),
        ("tags", '{"inputs": {"tokens": ["a", 1]}}', "inputs.tokens[1] must be a string"),
        ("answers", '{"inputs": "who?"}', "inputs must be an object with question and context"),
        ("answers", '{"inputs": {"question": "who?"}}', "inputs.context is missing"),
        ("choices", '{"inputs": {"context": "a", "choices": ["a"]}}', "a list of 2 to 32 texts"),
        ("choices", '{"inputs": {"context": "a", "choices": ["a", ""]}}', "inputs.choices[1] is empty"),
        ("masks", '{"inputs": "no mask"}', "has no [MASK]"),
        ("masks", '{"inputs": "%s"}' % ("[MASK] " * 21), "20 are the most"),
        ("masks", '{"inputs": "[MASK] %s"}' % ("a " * 70), "more than the 64 tokens"),
        ("masks", '{"inputs": "[MASK]", "parameters": {"top_k": true}}', "a whole number from 1 to 100"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong_with_it(clients, head, body, sentence):
    response = clients(head).post("/api/predict", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert sentence in response.json()["error"]


def test_what_is_not_there_or_not_allowed_is_json_too(clients):
    client = clients("classes")
    for response, status in (
        (client.get("/nothing"), 404),
        (client.get("/api/predict"), 405),
        (client.post("/api/info"), 405),
        (client.options("/api/predict", headers={"Origin": str(client.base_url).rstrip("/")}), 405),
        (client.post("/api/predict", content='{"inputs": "a"}', headers={"Content-Type": "text/plain"}), 415),
    ):
        assert response.status_code == status
        assert response.json()["error"]
        assert "access-control-allow-origin" not in response.headers
    assert client.get("/api/predict").headers["allow"] == "POST"
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost:80@evil.example"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:9"}, 200),
        ({"Host": "localhost.:9"}, 200),
        ({"Host": "[::1]:9"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
    ],
)
def test_other_sites_cannot_ask_by_another_name_or_from_their_pages(clients, headers, status):
    refused = clients("classes").get("/api/info").json()["served"]["refused"]
    response = clients("classes").get("/api/info", headers=headers)
    assert response.status_code == status
    assert ("error" in response.json()) == (status == 403)
    assert clients("classes").get("/api/info").json()["served"]["refused"] == refused + (status == 403)


def test_behind_a_proxy_the_name_it_is_asked_for_by_is_allowed(heads):
    with served(open_served(str(heads / "classes")), allowed=["Bert.example.org"]) as client:
        for host, status in (("bert.example.org", 200), ("localhost", 200), ("other.example.org", 403)):
            headers = {"Host": host, "Origin": f"https://{host}"}
            assert client.get("/healthz", headers=headers).status_code == status


def test_on_a_network_the_machine_answers_to_every_name(heads):
    with served(open_served(str(heads / "classes")), host="0.0.0.0") as client:
        assert client.get("/healthz", headers={"Host": socket.gethostname()}).status_code == 200
        assert client.get("/healthz", headers={"Host": "a.proxy.example"}).status_code == 200
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "example.com")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_the_address_that_is_printed_is_one_to_open():
    assert url_of("127.0.0.1", 8000) == "http://127.0.0.1:8000/"
    assert url_of("::1", 8000) == "http://[::1]:8000/"
    assert url_of("0.0.0.0", 8000) == url_of("::", 8000) == f"http://{socket.gethostname()}:8000/"


def test_on_a_network_the_folders_of_this_machine_are_not_told(heads):
    folder = str(heads / "classes")
    assert serving._shown(folder, "127.0.0.1") == folder
    assert serving._shown(f"{folder}/", "0.0.0.0") == "classes"
    assert serving._shown("google-bert/bert-base-uncased", "0.0.0.0") == "google-bert/bert-base-uncased"


def test_a_text_longer_than_was_trained_on_is_refused_where_there_are_positions_for_it(tmp_path):
    folder = write_head(tmp_path / "masks", "MaskedLM")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": 16}))
    with served(open_served(str(folder))) as client:
        assert client.get("/api/info").json()["max_seq_length"] == 16
        assert ask(client, "[MASK]" + " a" * 13).status_code == 200
        assert "more than the 16 tokens" in ask(client, "[MASK]" + " a" * 14).json()["error"]


def test_a_piece_that_goes_on_with_a_word_stands_close_to_it():
    assert _filled(["the ", " on ", "."], ["cat", "##ing"]) == "the cat oning."
    assert _filled(["", " cat"], ["##ing"]) == "ing cat"


def test_choices_weigh_as_often_as_the_model_reads_their_context(heads):
    model = open_served(str(heads / "choices"))
    assert model.read({"context": "a" * 100, "choices": ["b", "cc"]}, "inputs", {}).chars == 203


def test_what_the_model_is_and_does_is_told(clients):
    said = clients("sets").get("/api/info").json()
    assert (said["problem"], said["labels"], said["thresholds"]) == ("multi_label", ["a", "b", "c"], [0.5] * 3)
    assert (said["model"], said["bertkit"]) == ("toy", bertkit.__version__)
    assert said["limits"]["inputs"] == 256
    before = said["served"]
    ask(clients("sets"), ["a", "the"])
    ask(clients("sets"), 3)
    after = clients("sets").get("/api/info").json()["served"]
    assert {name: after[name] - before[name] for name in ("requests", "answered", "refused", "inputs")} == {
        "requests": 2, "answered": 1, "refused": 1, "inputs": 2,
    }  # fmt: skip


class Slow:
    """Answers each batch when it is let go."""

    def __init__(self):
        self.gate, self.batches = threading.Event(), []

    def describe(self):
        return {"problem": "classification"}

    def read(self, value, where, parameters):
        from bertkit.tasks.spec import Example

        return Asked(Example(where, where, (value,)))

    def answer(self, asked):
        self.batches.append([each.example.texts[0] for each in asked])
        assert self.gate.wait(30)
        if any(each.example.texts[0] == "poison" for each in asked):
            raise RuntimeError("no")
        return [{"prediction": each.example.texts[0]} for each in asked]


async def ask_all(client, inputs):
    """The responses to a request for each input, all at once."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=client.base_url, timeout=30, limits=limits, trust_env=False) as many:
        return await asyncio.gather(*(many.post("/api/predict", json={"inputs": each}) for each in inputs))


def let_go_once(model, batches):
    """Opens the gate in a moment, when so many batches are under way."""

    def wait():
        until_s = time.monotonic() + 20
        while len(model.batches) < batches and time.monotonic() < until_s:
            time.sleep(0.01)
        time.sleep(0.3)
        model.gate.set()

    threading.Thread(target=wait, daemon=True).start()


def test_requests_that_wait_together_are_answered_together():
    model = Slow()
    with served(model) as client:
        let_go_once(model, 1)
        texts = [f"text {number}" for number in range(40)]
        responses = asyncio.run(ask_all(client, texts))
        assert [response.json()["outputs"]["prediction"] for response in responses] == texts
    assert len(model.batches) <= 10
    assert max(map(len, model.batches)) <= 64


def test_one_input_that_fails_does_not_spoil_the_others_of_its_batch(caplog):
    model = Slow()
    with served(model) as client:
        let_go_once(model, 1)
        responses = asyncio.run(ask_all(client, ["one", "poison", "two"]))
    assert [response.status_code for response in responses] == [200, 500, 200]
    assert "the server's log says more" in responses[1].json()["error"]
    assert "could not be answered" in caplog.text


def test_more_than_may_wait_is_asked_to_come_again():
    model = Slow()
    with served(model, limits=Limits(waiting=5)) as client:
        let_go_once(model, 1)
        responses = asyncio.run(ask_all(client, [f"{number}" for number in range(120)]))
    codes = [response.status_code for response in responses]
    assert set(codes) == {200, 503}
    refused = next(response for response in responses if response.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert "try again" in refused.json()["error"]


def test_a_server_that_is_told_to_stop_answers_what_it_has_and_takes_no_more():
    model = Slow()
    with served(model) as client:

        def stop_once_all_have_come():
            until_s = time.monotonic() + 20
            while client.get("/api/info").json()["served"]["requests"] < 100 and time.monotonic() < until_s:
                time.sleep(0.01)
            client.stop_server()
            time.sleep(0.5)
            with pytest.raises(httpx.ConnectError):
                httpx.get(client.base_url, timeout=5, trust_env=False)
            model.gate.set()

        stopper = threading.Thread(target=stop_once_all_have_come)
        stopper.start()
        texts = [f"text {number}" for number in range(100)]
        responses = asyncio.run(ask_all(client, texts))
        stopper.join(30)
    assert [response.json()["outputs"]["prediction"] for response in responses] == texts


def test_what_takes_too_long_is_given_up_and_leaves_the_queue():
    model = Slow()
    with served(model, limits=Limits(seconds=0.3)) as client:
        response = ask(client, "first")
        assert (response.status_code, "within 0.3 s" in response.json()["error"]) == (504, True)
        assert ask(client, "second").status_code == 504
        assert client.get("/api/info").json()["served"]["waiting"] == 0
        model.gate.set()
        time.sleep(0.1)
        assert ask(client, "third").json()["outputs"] == {"prediction": "third"}
    assert ["second"] not in model.batches


def waits(is_so):
    until_s = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_small_request_does_not_wait_until_a_large_one_is_done():
    model, answers = Slow(), []
    with served(model) as client:
        many = in_thread(lambda: answers.append(ask(client, ["large"] * 250)))
        waits(lambda: model.batches)
        one = in_thread(lambda: answers.append(ask(client, "small")))
        waits(lambda: client.get("/api/info").json()["served"]["waiting"] == 250 - 64 + 1)
        model.gate.set()
        many.join(20)
        one.join(20)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [number for number, batch in enumerate(model.batches) if "small" in batch] == [1]


def test_what_nobody_waits_for_any_more_is_not_predicted():
    model = Slow()
    with served(model, limits=Limits(seconds=0.3)) as client:
        assert ask(client, ["late"] * 250).status_code == 504
        model.gate.set()
        waits(lambda: ask(client, "next").status_code == 200)
    assert sum(batch.count("late") for batch in model.batches) <= 64


def test_a_client_that_goes_away_takes_its_inputs_out_of_the_queue():
    model, body = Slow(), b'{"inputs": ["gone", "gone"]}'
    head = (
        "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with served(model) as client:
        first = in_thread(lambda: ask(client, "first"))
        waits(lambda: model.batches)
        with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=10) as connection:
            connection.sendall(head.encode() + body)
            waits(lambda: client.get("/api/info").json()["served"]["waiting"] == 2)
        waits(lambda: client.get("/api/info").json()["served"]["gone"] == 1)
        assert client.get("/api/info").json()["served"]["waiting"] == 0
        model.gate.set()
        first.join(20)
        assert ask(client, "last").status_code == 200
    assert model.batches == [["first"], ["last"]]


def test_every_answer_has_the_headers_of_safety_those_of_bugs_too(clients):
    model = Slow()
    model.gate.set()
    with served(model) as client:
        answers = [client.get("/"), client.get("/nothing"), ask(client, []), ask(client, "poison")]
        answers += [client.get("/", headers={"Host": "evil.example"}), client.get("/api/predict")]
        counts = client.get("/api/info").json()["served"]
    assert [answer.status_code for answer in answers] == [200, 404, 400, 500, 403, 405]
    assert {answer.headers["x-content-type-options"] for answer in answers} == {"nosniff"}
    assert {answer.headers["x-frame-options"] for answer in answers} == {"DENY"}
    assert (counts["requests"], counts["refused"], counts["failed"]) == (3, 2, 1)


def test_what_is_too_much_is_refused_and_said_so(clients, heads):
    limits = Limits(inputs=3, chars=100)
    with served(open_served(str(heads / "classes")), limits=limits) as client:
        for inputs, sentence in (
            ("a" * 5000, "larger than 4,200 bytes"),
            (["a"] * 4, "inputs has 4: 3 are the most"),
            ("a" * 101, "inputs has 101 characters for the model to read: 100 are the most"),
            (["a" * 60, "a" * 60], "inputs has 120 characters"),
        ):
            response = ask(client, inputs)
            assert (response.status_code, sentence in response.json()["error"]) == (413, True)
        assert ask(client, ["a"] * 3).status_code == 200


def test_a_request_that_never_ends_is_given_up(heads):
    def slowly():
        yield b'{"inputs": '
        time.sleep(1)
        yield b'"a"}'

    with served(open_served(str(heads / "classes")), limits=Limits(seconds=0.3)) as client:
        headers = {"Content-Type": "application/json"}
        response = client.post("/api/predict", content=slowly(), headers=headers)
        assert (response.status_code, "did not arrive" in response.json()["error"]) == (408, True)


def test_a_client_that_goes_away_in_the_middle_leaves_no_trace_of_a_bug(heads, caplog):
    head = (
        "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    )
    with served(open_served(str(heads / "classes"))) as client:
        with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=10) as connection:
            connection.sendall(head.encode() + b'{"inputs"')
        until_s = time.monotonic() + 10
        while not (counts := client.get("/api/info").json()["served"])["gone"]:
            assert time.monotonic() < until_s, counts
            time.sleep(0.02)
        assert ask(client, "a").status_code == 200
    assert "Traceback" not in caplog.text


def test_a_missing_package_names_what_to_install(monkeypatch):
    monkeypatch.setattr(serving, "is_installed", lambda name: name != "uvicorn")
    with pytest.raises(ConfigError, match=r"needs uvicorn, which is not installed: pip install uvicorn"):
        serve("anything")


def test_what_cannot_be_served_says_why(tmp_path, heads):
    write_head(tmp_path / "nsp", "NextSentencePrediction")
    with pytest.raises(ConfigError, match="has no head to predict with"):
        open_served(str(tmp_path / "nsp"))
    with pytest.raises(ConfigError, match="^there is no folder nothing, and "):
        open_served("nothing")
    with pytest.raises(ConfigError, match=r"--host 203\.0\.113\.9 is no address of this machine"):
        serve(str(heads / "classes"), host="203.0.113.9", port=0)
