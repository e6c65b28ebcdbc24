// Records from the microphone in the browser, and returns a WAV file of one channel and 16 bits.

// A Blob of a WAV file; samples beyond ±1 are clipped.
function wavOf(samples, rate) {
  const integers = Int16Array.from(samples, (sample) => Math.round(32767 * Math.max(-1, Math.min(1, sample))));
  // 16 bytes follow: PCM (1) of 1 channel; samples and bytes a second; 2 bytes, which are 16 bits, a sample.
  const format = Uint32Array.of(16, 1 + (1 << 16), rate, 2 * rate, 2 + (16 << 16));
  const [bytes, following] = [integers.byteLength, 36 + integers.byteLength].map((number) => Uint32Array.of(number));
  return new Blob(["RIFF", following, "WAVEfmt ", format, "data", bytes, integers], { type: "audio/wav" });
}

// The mean of the channels of an AudioBuffer.
function monoOf(audio) {
  const mono = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((sample, i) => { mono[i] += sample / audio.numberOfChannels; });
  }
  return mono;
}

const FAILURES = {
  NotAllowedError: "The browser does not let this page use the microphone. Allow it beside the address, and record again.",
  NotFoundError: "No microphone was found. Plug one in, or use a file.",
  NotReadableError: "Another programme uses the microphone. Close it, and record again.",
  NotSupportedError: "This page cannot record: browsers allow it only to pages of https:// and localhost, and some editors to none. Record with another programme, and use the file.",
  EncodingError: "Nothing was recorded. Speak, and then press Stop.",
};

// Runs the buttons in `root`. Returns a promise of the first recording, {wav: base64}, or of the reason for none, {error}.
function recorder(root, maxSeconds, rate) {
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const [record, stop, message, player, save] = ["record", "stop", "message", "player", "save"].map(part);

  async function wavFromMicrophone() {
    if (!navigator.mediaDevices || !window.MediaRecorder) throw { name: "NotSupportedError" };
    // Processing for telephone calls removes loudness and breath, which carry emotion.
    const plain = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    const started = performance.now();
    const clock = setInterval(() => {
      const seconds = (performance.now() - started) / 1000;
      message.textContent = `recording, ${seconds.toFixed(1)} of at most ${maxSeconds} s`;
      if (seconds >= maxSeconds) stop.click();
    }, 100);
    try {
      const encoded = await new Promise((resolve, reject) => {
        const media = new MediaRecorder(stream, { audioBitsPerSecond: 256000 });
        media.ondataavailable = (event) => resolve(event.data);
        media.onerror = (event) => reject(event.error);
        stop.onclick = () => { stop.disabled = true; media.stop(); };
        stop.disabled = false;
        media.start();
      });
      const audio = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await encoded.arrayBuffer());
      return wavOf(monoOf(audio), rate);
    } finally {
      clearInterval(clock);
      stream.getTracks().forEach((track) => track.stop()); // switches off the browser's recording sign
    }
  }

  return new Promise((resolve) => {
    record.onclick = async () => {
      record.disabled = true;
      message.textContent = "waiting for the microphone …";
      try {
        const wav = await wavFromMicrophone();
        player.src = save.href = URL.createObjectURL(wav);
        player.hidden = save.hidden = false;
        message.textContent = `${((wav.size - 44) / 2 / rate).toFixed(1)} s recorded.`;
        const bytes = new Uint8Array(await wav.arrayBuffer());
        resolve({ wav: btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")) });
      } catch (error) {
        message.textContent = FAILURES[error.name] || `Recording failed: ${error.message || error.name}`;
        resolve({ error: message.textContent });
      }
      record.disabled = false;
      stop.disabled = true;
    };
  });
}
