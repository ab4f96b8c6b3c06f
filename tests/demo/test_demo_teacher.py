"""The scripted teacher, asked over real HTTP by the real client."""

import base64
import io
from collections.abc import Iterator
from random import Random

import numpy as np
import openai
import pytest
from PIL import Image

from visionr1.data import digits
from visionr1.data.coldstart.templates import fill, load_templates
from visionr1.demo import teacher
from visionr1.demo.chains import chain


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with teacher.scripted_teacher() as url, openai.OpenAI(base_url=url, api_key="none", max_retries=0) as connection:
        yield connection


def ask(client: openai.OpenAI, prompt: str, image: bytes | None = None) -> tuple[str, str]:
    content: list[dict[str, object]] = [{"type": "text", "text": prompt}]
    if image is not None:
        url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
        content.insert(0, {"type": "image_url", "image_url": {"url": url}})
    reply = client.chat.completions.create(model=teacher.MODEL, messages=[{"role": "user", "content": content}])  # type: ignore[list-item,misc]
    return reply.choices[0].message.content or "", reply.choices[0].finish_reason


def test_the_model_is_named_for_what_it_is(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["scripted-teacher"]


def test_the_three_steps_with_the_shipped_prompts(client: openai.OpenAI) -> None:
    templates = load_templates(None)
    right = 0
    for row in digits.problems("train")[:30]:
        question = row.problem.replace("<image>", "")
        thought, _ = ask(client, fill(templates.pseudo_cot, {"question": question, "answer": row.answer}), row.images[0])
        assert thought.startswith("Caption:")
        fields = {"question": question, "thinking process": thought}
        described, _ = ask(client, fill(templates.description, fields), row.images[0])
        assert described.startswith("The image shows")
        assert "Reasoning" not in described
        fields = {"question": question, "description": described, "answer": row.answer}
        chain, _ = ask(client, fill(templates.reasoning, fields))
        assert chain.startswith("<think> ")
        right += chain.endswith(f"</think>\n\nFinal Answer: {row.answer}")
    assert 18 <= right < 30


def test_the_reasoner_knows_only_the_words_it_is_given(client: openai.OpenAI) -> None:
    prompt = (
        "The image shows 2 digits. The left digit is 3. The right digit is 9. What is the largest digit? The correct answer is 7."
    )
    assert "Left 3. Right 9." in ask(client, prompt)[0]
    three = "The left digit is 3. The middle digit is 1. The right digit is 9."
    for described in (
        "The image shows some digits. What is the largest digit?",
        f"{three} {digits.KINDS['add 4 times'].question}",
    ):
        blind, _ = ask(client, described)
        assert "not provided" in blind


def test_the_same_request_gets_the_same_reply(client: openai.OpenAI) -> None:
    prompt = "The left digit is 3. The right digit is 9. What is the sum of the digits?"
    assert len({ask(client, prompt) for _ in range(3)}) == 1
    assert len({ask(client, f"{prompt} Picture {number}.") for number in range(20)}) > 5


@pytest.mark.parametrize(
    ("prompt", "image", "message"),
    [
        ("What is the capital of France?", None, "only the demo's questions"),
        ("What is the largest digit?", b"not a picture", "cannot be read"),
    ],
)
def test_what_it_cannot_answer_is_a_bad_request(client: openai.OpenAI, prompt: str, image: bytes | None, message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        ask(client, prompt, image)


def test_another_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="scripted-teacher"):
        client.chat.completions.create(model="DeepSeek-R1", messages=[{"role": "user", "content": "hello"}])


def test_it_misreads_some_pictures_but_not_many() -> None:
    ink_N88, label_N = digits.scans("train")
    random = np.random.default_rng(5)
    chosen_BD = random.integers(len(label_N), size=(300, 2))
    wrong = sum(teacher.read_digits(digits.draw(ink_N88[row], random)) != label_N[row].tolist() for row in chosen_BD)
    assert 6 <= wrong <= 36


def test_it_counts_the_digits_by_the_pictures_shape() -> None:
    ink_N88, label_N = digits.scans("train")
    picture = digits.draw(ink_N88[:3])
    assert len(teacher.read_digits(picture)) == 3
    assert teacher.read_digits(picture.resize((336, 112), Image.Resampling.BICUBIC)) == teacher.read_digits(picture)


def replies(count: int) -> list[teacher.Reply]:
    prompt = "The left digit is 3. The right digit is 9. What is the sum of the digits? No."
    return [teacher.answer([{"role": "user", "content": f"{prompt} {number}"}]) for number in range(count)]


def test_some_replies_are_for_the_filter() -> None:
    texts = replies(600)
    endless = [reply for reply in texts if reply.finish_reason == "length"]
    assert all("</think>" not in reply.text for reply in endless)
    wrong = [reply for reply in texts if "</think>" in reply.text and not reply.text.endswith("Answer: 12")]
    assert 6 <= len(endless) <= 40
    assert 20 <= len(wrong) <= 150
    assert all(any(slip in reply.text for reply in texts) for slip in teacher.SLIPS_OF_THE_TONGUE)
    assert any("The description says" in reply.text for reply in texts)


def test_chains_are_long_winded_and_long_ones_err_more_often() -> None:
    finished = [reply.text for reply in replies(1500) if reply.finish_reason == "stop"]
    looks = np.array([text.count("Left") for text in finished])
    right = np.array([text.endswith("Answer: 12") for text in finished])
    assert 0.95 < (looks > 1).mean() < 0.99
    assert 0.4 < (looks >= 5).mean() < 0.75
    assert right[looks == 1].mean() > right[looks >= 5].mean() + 0.03


def test_few_chains_are_straight_and_a_working_of_several_steps_is_else_checked_again_and_again() -> None:
    def looks(kind: str) -> np.ndarray:
        random = Random(0)
        return np.array([chain(kind, [3, 9], random)[0].count("Left") for _ in range(3000)])

    for kind in ("sum", "add 4 times", "add 8 times"):
        assert 0.02 < (looks(kind) == 1).mean() < 0.04
    assert set(looks("sum")) == {1, 4, 5}
    assert set(looks("add 8 times")) == {1, 5}


def test_the_picture_is_read_from_its_pixels() -> None:
    row = digits.problems("held-out")[0]
    picture = Image.open(io.BytesIO(row.images[0]))
    mirrored = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert teacher.pseudo_cot("sum", picture) != teacher.pseudo_cot("sum", mirrored)
