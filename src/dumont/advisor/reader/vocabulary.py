"""What words of both languages tell about a workload: signals, with spelling forgiven and denial ("sem LoRA") heard."""

import re
from dataclasses import dataclass
from functools import cache

from dumont.advisor.reader.text import Lang

# A word is exact, `stem*` is a beginning, and what has a space or a hyphen in it is a phrase (beginning at a word).
SIGNALS: dict[str, str] = {
    "finetune": "finetune* sft adestr* |fazer um ajuste|instruction tuning|treinar em cima|customiz* personaliz*",
    "train": (
        "train training trains treinar treina treinamento treinamentos treinando treinei treinarmos "
        "treine* treino treinos retrein* retrain* "
        "|aprender meu rosto"
    ),
    "lora": "lora loras dora |low rank",
    "qlora": "qlora |q-lora|lora 4bit|lora 4-bit|lora 4 bit|lora em 4",
    "full": "full |full finetun|full fine|finetune completo|finetune full|finetune total|full parameter"
    "|full param|todos os pesos|all weights"
    "|treinar tudo|treinamento completo|treino completo|finetune inteiro|full-parameter|full weight"
    "|all the weights|full bf16 finetun"
    "|full ft|modelo inteiro|completo do|full sft|full-finetun",
    "trainish": (
        "zero-1 zero-2 zero-3 fsdp fsdp2 epocas epoca epochs epoch optimizer otimizador adamw "
        "adafactor gradient checkpointing deepspeed unsloth axolotl torchtune seq "
        "|learning rate|grad accum"
    ),
    "pretrain": (
        "pretrain* pretrein* nanogpt |pre-train|pre-trein|pre train|pre trein|from scratch|do zero"
        "|from zero|train a gpt"
    ),
    "continued": "|continued pretrain|continued pre|continual pre|continuar o pre|pretreino continuado"
    "|pre-treino continuado|continue pretrain"
    "|treinamento continuado|pretreinamento continuado|continuar pre|pre-treinamento continuado|pre treino continuado"
    "|pretreino continuo|domain adaptation|continue o pre|continued training|pre-training continuado",
    "dpo": "dpo orpo kto simpo ipo |preference tuning|preference optim",
    "rl": "grpo ppo rlhf rlvr gspo reinforce |reinforcement learning from",
    "distill": "distil distill distilling distillation distilar destil* |teacher|knowledge distill",
    "quantize": (
        "quantize quantizing quantise quantizar |gerar gguf|converter para gguf|convert to gguf"
        "|fazer o gguf|make a gguf"
    ),
    "eval": "benchmark* lm-eval mmlu evals |lm eval|avaliar o modelo|avaliar modelos|evaluate the model|run evals",
    "llm": "nanogpt llm llms ggufs slm |language model|modelo de linguagem|modelos de linguagem|modelo de texto",
    "serve": "serve serving servir servindo deploy* hospedar hosting host api apis endpoint endpoints "
    "producao production rag"
    " atendimento backend websocket rps qps |chat-bot|em producao|in production|req/s|requests per second"
    "|openai compatible|requisicoes por|requests/s|colocar no ar|no ar|online|always on|por no ar"
    "|subir uma api|req por",
    "server_software": "vllm sglang tgi tensorrt-llm lmdeploy |triton inference|tensorrt llm|tensorrt-llm",
    "chatbot": (
        "agente agentes agent agents chatbot* bot bots assistente assistant copilot copiloto |assistente virtual"
    ),
    "chat": (
        "chat chatting conversar conversando bater papo roleplay rp sillytavern |open webui|para eu conversar|talk to"
    ),
    "users": "usuario usuarios users clientes customers funcionarios employees alunos students atendentes devs colegas"
    " simultaneos simultaneas simultaneous concurrent colaboradores seats visitors visitantes",
    "alone": "sozinho sozinha |so eu|somente eu|apenas eu|just me|only me|for myself|so para mim|uso pessoal"
    "|personal use|single user"
    "|um usuario|one user|uso proprio|my own use|so pra mim|somente para mim|apenas para mim"
    "|only for me|just for me|eu mesmo|by myself|so um usuario",
    "run": "rodar rodando rode roda run running executar usar rodo testar",
    "batch": "captioning classify classifi* resumi* summar* traduz* translat* extract* extrai* label* rotular anotar "
    "annotat* categoriz* moder* processar"
    " tag tagging sumariz* sumarizar |throughput job|em lote|batch inference|inferencia em lote|offline inference"
    "|synthetic data|dados sinteticos|gerar respostas"
    "|generate answers|batch job|llm as a judge|score all|dado sintetico|reescrev|rewrite|limpar textos",
    "embed": "embedding* embeddings vetoriz* vectoriz* embeds embed |busca semantica|semantic search",
    "encoder": "ner |sentiment|analise de sentimento|text classif|classificador de texto"
    "|classificacao de texto|entidades nomeadas"
    "|named entit|token classif|intent classif",
    "image": "imagem imagens image images foto fotos photo photos picture pictures ilustrac* avatar "
    "avatares logo logos retrato* portrait* dreambooth"
    " comfyui a1111 automatic1111 img2img txt2img inpaint* text2img forge fooocus kohya controlnet "
    "|text to image|text-to-image|difusao|diffusion|image gen",
    "drawing_software": (
        "comfyui a1111 automatic1111 forge fooocus txt2img img2img text2img webui |text to image"
        "|text-to-image|texto para imagem|geracao de imagens|geracao de imagem|image generation"
        "|gerador de imagens|gerar imagens|generate images"
    ),
    "dreambooth": "dreambooth |textual inversion",
    "video": (
        "footage video videos clip clips clipe clipes filme filmes animar i2v t2v v2v |text to video"
        "|image to video|text-to-video|image-to-video"
    ),
    "generate": (
        "gerar gere geracao gera generate generating generation gerando criar create make fazer "
        "produzir produce colocar"
    ),
    "upscale": (
        "upscal* upsampl* esrgan topaz |super resolution|super-resolution|super resolucao"
        "|aumentar a resolucao|aumentar resolucao|melhorar a resolucao|restaurar video"
    ),
    "transcribe": (
        "transcr* asr stt legendar legendas legenda subtitl* caption* closed-caption diariz* "
        "|speech to text|speech-to-text|voz para texto|fala para texto|fala em texto|voz em texto"
        "|reconhecimento de fala|speech recognition"
    ),
    "audio": "audio audios podcast podcasts fala voz voice speech ligacoes chamadas calls reuniao reunioes "
    "meetings entrevistas interviews gravac* recordings lectures aulas"
    " |call center|callcenter",
    "realtime": (
        "realtime streaming |real-time|real time|tempo real|ao vivo|live stream|live caption|live trans"
        "|on the fly|live sub"
    ),
    "speak": (
        "tts dublar dublagem dubbing |voz clonada|minha voz|text to speech|text-to-speech|voice clon"
        "|clonar voz|clonar a voz|clonar minha voz"
        "|clonagem de voz|sintese de voz|texto para fala|texto em fala|texto para voz|voice synth"
        "|voiceover|voice over|narrar|audiobook|clone my voice|clone voices|narracao"
    ),
    "music": "musica musicas music songs beats |music generation|gerar musica",
    "vision": "yolo* segment* detec* detect* unet resnet* ocr opencv imagenet coco cnn cnns convnet "
    "|computer vision|visao computacional|object detection|image classif|classificacao de imagens"
    "|classificador de imagens|medical imag|imagens medicas|pose estimation|classificar imagens"
    "|classify images|reconhecimento facial|deteccao de"
    "|image segmentation|object tracking|contar pessoas|count cars|contagem de",
    "ocr": "ocr |ler documentos escaneados|scanned pages|scanned doc",
    "splat": "splat* 3dgs splatting |gaussian splat",
    "nerf": "nerf nerfs nerfstudio instant-ngp |instant ngp",
    "blender": "blender cycles eevee",
    "octane": "octane octanerender octanebench otoy",
    "redshift": "redshift",
    "renderer": "v-ray vray arnold karma houdini unreal renderman corona lumion twinmotion d5 enscape keyshot "
    "maxwell iray omniverse"
    " c4d cinema4d maya 3dsmax sketchup rhino |cinema 4d|3ds max|path tracing|unreal engine"
    "|after effects|davinci resolve|premiere pro",
    "render": "render renders rendering renderiz* rende* renderfarm renderizacao quadros |render farm",
    "mining": (
        "minerar mineracao minero miner mining mine monero xmr ethereum bitcoin btc kaspa ravencoin "
        "hashrate nicehash cripto "
        "|crypto mining|minerar cripto|mh/s|proof of work|ethash|crypto coins|criptomoeda"
    ),
    "game": (
        "gta fortnite cyberpunk valorant csgo moonlight sunshine parsec gamer gaming gameplay jogar "
        "jogos jogo games geforcenow steam xcloud roblox minecraft "
        "|geforce now|cloud gaming|game stream|play games|elden ring|play cyberpunk|stream games"
        "|play a game"
    ),
    "game_dev": (
        "unity godot |game dev|desenvolver jogo|desenvolvimento de jogo|game development|bot de jogo"
        "|jogos classicos|agente que joga|assets"
    ),
    "hpc": (
        "gromacs namd amber lammps openfoam openmm cfd cosmo vasp qiskit ansys fluent matlab "
        "|molecular dynamics|dinamica molecular|fluid dynamics|finite element|elementos finitos"
        "|monte carlo|alphafold|quantum chem|protein fold|docking|simulacao de fluid|density functional"
        "|simulacao numerica|cuda fortran|n-body|autodock|wrf"
    ),
    "rl_sim": (
        "isaac mujoco gymnasium gym stable-baselines rllib |reinforcement learning"
        "|aprendizado por reforco|isaac gym|isaac lab|self-play|isaac sim"
    ),
    "tabular": (
        "recommender recommenders recsys xgboost lightgbm catboost rapids cudf cuml tabular "
        "|random forest|recommend|recomendacao"
        "|series temporais|time series|gradient boost"
    ),
    "notebook": (
        "jupyter jupyterlab notebook notebooks colab kaggle aula aulas workshop oficina minicurso "
        "bootcamp turma hackathon "
        "|sala de aula|teach a class|teaching|fast.ai|fastai|study pytorch|learn pytorch|learn cuda"
        "|estudar pytorch|aprender pytorch"
    ),
    "study": (
        "laboratorio mestrado doutorado estudar estudo aprender learn curso course disciplina class "
        "classes lab ensinar tcc faculdade "
        "university "
        "|machine learning|deep learning|to study"
    ),
    "pupils": "alunos alunas students estudantes pupils",
    "dev": (
        "cuda homework compil* debug* depurar ci nsight profiling profile nvcc sm kernel kernels cuda-gdb triton "
        "|codigo cuda|cuda code|cuda kernel|build wheels|test my code|testar meu codigo|unit tests|ssh"
        "|vs code|vscode|dev box|dev environment|desenvolvimento"
    ),
    "inference": "inference inferencia predict predicao prever inferir infer",
    "oom": "oom ooms |out of memory|cuda out of|sem memoria|estour|estoura|falta memoria|falta de memoria",
    "compare": "vs versus |or should i|compared|comparado|comparar",
    "vlm": "vlm vlms multimodal |vision language|visao e linguagem",
    "need": "preciso precisa precisamos need needs require requires requer quero want minimo least minimum",
    "fit": (
        "cabe cabem fit fits rola roda consigo possible possivel posso can enough da suficiente aguenta suporta serve"
    ),
}

_NEGATORS = {
    "pt-BR": frozenset({"sem", "nao", "nem", "nunca", "jamais"}),
    "en": frozenset({"without", "not", "no", "never", "don't", "isn't", "dont", "isnt", "neither"}),
}
_NO_NEGATION_BEFORE_WORDS = """
sei know sure pressa rush hurry more less limite limit problem problema idea ideia saber gastar tenho tem
preciso only so apenas just matter importa
"""
_NO_NEGATION_BEFORE = frozenset(_NO_NEGATION_BEFORE_WORDS.split())
# What somebody may say they do not want; "my PC can't take Blender" still is about Blender.
_DENIABLE_WORDS = """
finetune train lora qlora full pretrain continued dpo rl distill quantize serve chat chatbot
realtime batch mining game render notebook eval alone users
"""
_DENIABLE = frozenset(_DENIABLE_WORDS.split())
_OTHERWISE = {  # words that mean something else before these ("full hd" trains nothing)
    "full": frozenset(
        """hd time stack day dataset context speed power precision video hours load length resolution page pages
        scene movie episode frame quality bf16""".split()  # noqa: SIM905 - one word a line would be twenty
    ),
    "notebook": frozenset(("nao", "velho", "dell", "gamer", "fraco", "lenovo")),
    "class": frozenset(("of", "gpu", "card", "cards")),
    "lab": frozenset(("machine",)),
}
_REACH = 3
_MISSPELT_WORDS = """
finetune treinar treinamento training renderizar rendering transcrever transcricao transcribe inferencia
inference embedding embeddings quantizado quantized usuarios usuario imagens imagem exemplos exemplo tokens
contexto orcamento simultaneos simultaneas concurrent segmentacao deteccao detection segmentation blender
jupyter notebook notebooks gradient checkpointing pretraining dataset batch resolucao documentos frames
quadros epocas epochs barato rapido cheapest fastest mensal amanha sabado domingo segunda quarta quinta sexta
semana latencia latency horas minutos parametros parameters bilhoes milhoes segundos placas chatbot tomorrow
concorrentes requisicoes octane redshift mineracao minerar animacao animation fotos videos audios podcast
conversas documents sentences reais dolares interruptivel interruptible context length samples images users
budget
"""
_MISSPELT = tuple(_MISSPELT_WORDS.split())
_REAL_WORDS_WORDS = """
treinando treinado treina rendered renders renderer inferences embedded quantize user users usuaria image
images imagem exemplar token contextos segments frame quadro epoca epoch barata rapida rapidos cheaper faster
mensais sabados segundo quartos quintas sextas semanas latencies hora minuto parameter placar vidros tomorrows
concorrente octanes trained trainer trains treinos animar foto fotos video audio documento document sentence
real dolar sample budgets batch batches datasets quarto quintal quinto sexto segundas transcrito transcribed
animate contest content boats pages plane planos banco context contexts lengths strength
"""
_REAL_WORDS = frozenset(_REAL_WORDS_WORDS.split())
_TOKEN = re.compile(r"[a-z0-9][a-z0-9.'+-]*[a-z0-9+]|[a-z0-9]|[,;.!?\n]")
_LONG_WORD = re.compile(r"(?<![a-z0-9])[a-z]{5,16}(?![a-z0-9])")


@dataclass(frozen=True)
class _Lexicon:
    exact: dict[str, tuple[str, ...]]
    stems: dict[str, tuple[str, ...]]
    phrases: tuple[tuple[str, str], ...]
    stem_lengths: tuple[int, ...]


@cache
def _lexicon() -> _Lexicon:
    exact: dict[str, list[str]] = {}
    stems: dict[str, list[str]] = {}
    phrases: list[tuple[str, str]] = []
    for signal, written in SIGNALS.items():
        words, *more = written.split("|")
        for word in words.split():
            (stems if word.endswith("*") else exact).setdefault(word.rstrip("*"), []).append(signal)
        for phrase in more:
            *whole, last = phrase.split(" ")
            if last.endswith("*") and not whole:
                stems.setdefault(last.rstrip("*"), []).append(signal)
            else:
                phrases.append((phrase.strip(), signal))
    lengths = tuple(sorted({len(stem) for stem in stems}))
    return _Lexicon(
        {w: tuple(s) for w, s in exact.items()}, {w: tuple(s) for w, s in stems.items()}, tuple(phrases), lengths
    )


def signals_of(text: str, lang: Lang) -> tuple[frozenset[str], frozenset[str]]:
    """The signals heard in folded text, and those that were only ever denied ("sem LoRA", "não é treino")."""
    lexicon = _lexicon()
    negators = _NEGATORS[lang] | _NEGATORS["en"] - {"no"}
    heard: set[str] = set()
    denied: set[str] = set()
    since_negator = _REACH + 1
    tokens = _TOKEN.findall(text)
    for at, token in enumerate(tokens):
        if token in ",;.!?\n":
            since_negator = _REACH + 1
            continue
        if token in negators and not (at + 1 < len(tokens) and tokens[at + 1] in _NO_NEGATION_BEFORE):
            since_negator = 0
            continue
        since_negator += 1
        if token == "serve" and lang == "pt-BR":  # "serve uma 3090?" asks whether it will do
            continue
        if token in _OTHERWISE and at + 1 < len(tokens) and tokens[at + 1] in _OTHERWISE[token]:
            continue
        found = _of_word(token, lexicon)
        heard |= found if since_negator > _REACH else found - _DENIABLE
        denied |= found & _DENIABLE if since_negator <= _REACH else set()
    for phrase, signal in lexicon.phrases:
        where = text.find(phrase)
        while where >= 0 and where > 0 and text[where - 1].isalnum():
            where = text.find(phrase, where + 1)
        if where >= 0:
            (denied if signal in _DENIABLE and _is_denied(text[:where], negators) else heard).add(signal)
    return frozenset(heard), frozenset(denied - heard)


def _of_word(token: str, lexicon: _Lexicon) -> set[str]:
    found = set(lexicon.exact.get(token, ()))
    for length in lexicon.stem_lengths:
        if length > len(token):
            break
        found.update(lexicon.stems.get(token[:length], ()))
    if "-" in token and not found:
        for part in token.split("-"):
            found |= _of_word(part, lexicon)
    return found


def _is_denied(before: str, negators: frozenset[str]) -> bool:
    clause = re.split(r"[,;.!?\n]", before[-40:])[-1].split()
    return any(word in negators for word in clause[-_REACH:])


@cache
def _misspellings() -> dict[str, str]:
    """Words with one letter left out of the terms that matter, to the term; ambiguous ones are dropped."""
    found: dict[str, str] = {}
    ambiguous: set[str] = set()
    for term in _MISSPELT:
        for shorter in _deletes(term):
            if found.setdefault(shorter, term) != term:
                ambiguous.add(shorter)
    return {shorter: term for shorter, term in found.items() if shorter not in ambiguous}


def _deletes(word: str) -> set[str]:
    return {word[:i] + word[i + 1 :] for i in range(len(word))}


def _is_inflected(word: str, term: str) -> bool:
    """Whether two words differ in their ending only: `semanal` is no misspelling of `semana`."""
    return word.startswith(term[:-1]) or term.startswith(word[:-1])


def spelling_forgiven(text: str) -> str:
    """Folded text with misspelt terms put right: one letter missing, doubled, changed or two swapped; nothing else."""
    known = _lexicon()
    terms = frozenset(_MISSPELT)
    misspellings = _misspellings()

    def put_right(match: re.Match[str]) -> str:
        word = match.group()
        if word in terms or word in _REAL_WORDS or len(word) < 6 or _of_word(word, known):
            return word
        candidates = [misspellings.get(word)]
        for shorter in _deletes(word):
            candidates.append(shorter if shorter in terms else None)
            swapped = misspellings.get(shorter)
            same_frame = (
                swapped is not None and len(swapped) == len(word) and swapped[0] + swapped[-1] == word[0] + word[-1]
            )
            candidates.append(swapped if same_frame else None)
        right = (term for term in candidates if term is not None and len(term) >= 6 and not _is_inflected(word, term))
        return next(right, word)

    return _LONG_WORD.sub(put_right, text)
