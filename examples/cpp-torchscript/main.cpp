// Scores standard input with a bundle's model.ts and libtorch alone; the vocabulary and the tokenizer are in the model.
//
//     classify model.ts < reviews.txt        one text a line
//     classify -0 model.ts < reviews.bin     texts that hold newlines: each ends with a zero byte, as for xargs -0
//
// For every text one line: the label, then the probability of each class, separated by tabs.
// Exit status 2 where the model cannot be loaded or the output cannot be written.

#include <torch/script.h>

#include <iomanip>
#include <iostream>
#include <string>

// When a batch is full: texts, and bytes that it would hold with every text padded to its longest.
constexpr std::size_t kTexts = 64;
constexpr std::size_t kPaddedBytes = 1 << 19;

using Batch = c10::List<std::string>;

// Prints a line for every text of `batch` and empties it.
void score(torch::jit::Module& model, Batch& batch) {
  const auto outputs = model.forward({batch}).toTuple();
  const auto labels = outputs->elements()[0].toList();
  const auto probabilities = outputs->elements()[1].toTensor();
  const auto rows = probabilities.accessor<float, 2>();
  for (std::int64_t row = 0; row < rows.size(0); ++row) {
    std::cout << labels.get(row).toStringRef();
    for (std::int64_t label = 0; label < rows.size(1); ++label) std::cout << '\t' << rows[row][label];
    std::cout << '\n';
  }
  std::cout.flush();
  batch = Batch();
}

int main(int count, char** arguments) {
  const bool zero = count == 3 && std::string(arguments[1]) == "-0";
  if (count != (zero ? 3 : 2)) {
    std::cerr << "usage: classify [-0] model.ts < texts\n";
    return 2;
  }
  std::ios::sync_with_stdio(false);
  std::cout << std::setprecision(9);  // enough to give every float back

  try {
    const c10::InferenceMode no_gradients;
    auto model = torch::jit::load(arguments[count - 1]);
    model.eval();
    Batch batch;
    std::size_t longest = 0;
    for (std::string text; std::getline(std::cin, text, zero ? '\0' : '\n');) {
      const auto padded = std::max(longest, text.size()) * (batch.size() + 1);
      if (!batch.empty() && (batch.size() == kTexts || padded > kPaddedBytes)) {
        score(model, batch);
        longest = 0;
      }
      longest = std::max(longest, text.size());
      batch.push_back(text);
    }
    if (!batch.empty()) score(model, batch);
  } catch (const c10::Error& error) {
    std::cerr << "error: " << arguments[count - 1] << ": " << error.what_without_backtrace() << '\n';
    return 2;
  }
  if (!std::cout) {
    std::cerr << "error: standard output cannot be written\n";
    return 2;
  }
}
