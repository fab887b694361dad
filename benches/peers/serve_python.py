"""Libraries that run in the asking process, behind the smallest HTTP server that speaks
OpenAI's streamed chats, so that they are measured as servers are.

usage: serve_python.py langchain|ctransformers MODEL PORT THREADS CONTEXT
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


def chatml(messages):
    """The prompt as most small models' templates have it."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return turns + "<|im_start|>assistant\n"


def langchain(model, threads, context):
    from langchain_community.chat_models import ChatLlamaCpp

    chat = ChatLlamaCpp(
        model_path=model,
        n_threads=threads,
        n_ctx=context,
        n_batch=512,
        verbose=False,
        model_kwargs={"n_threads_batch": threads},
    )
    end = chat.client.token_eos()

    def answer(request):
        keywords = {"temperature": 0.0, "max_tokens": request["max_tokens"]}
        if request.get("ignore_eos"):
            keywords["logit_bias"] = {str(end): -100.0}
        messages = [(m["role"], m["content"]) for m in request["messages"]]
        for chunk in chat.stream(messages, **keywords):
            yield chunk.content

    return answer


def ctransformers(model, threads, context):
    from ctransformers import AutoModelForCausalLM

    llm = AutoModelForCausalLM.from_pretrained(
        model, model_type="llama", threads=threads, context_length=context
    )

    def answer(request):
        prompt = chatml(request["messages"])
        yield from llm(
            prompt,
            stream=True,
            temperature=0.0,
            top_k=1,
            repetition_penalty=1.0,
            max_new_tokens=request["max_tokens"],
            stop=[] if request.get("ignore_eos") else ["<|im_end|>"],
        )

    return answer


class Handler(BaseHTTPRequestHandler):
    answer = None

    def do_GET(self):
        self.begin("application/json")
        self.wfile.write(b'{"data": [{"id": "peers"}]}')

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = json.loads(body)
        self.begin("text/event-stream")
        try:
            for text in Handler.answer(request):
                self.event(json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}))
            self.event("[DONE]")
        except BrokenPipeError:
            raise
        except Exception as error:  # whatever the library throws is the answer
            self.event(json.dumps({"error": {"message": f"{type(error).__name__}: {error}"}}))

    def begin(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def event(self, data):
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_):
        pass


def main():
    library, model, port, threads, context = sys.argv[1:]
    load = {"langchain": langchain, "ctransformers": ctransformers}[library]
    Handler.answer = staticmethod(load(model, int(threads), int(context)))
    HTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


main()
